# %% [markdown] id="title"
# # Week 4
# %% id="parameters" tags=["parameters"]
profile = "cpu"
