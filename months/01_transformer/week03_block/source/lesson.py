# %% [markdown] id="title"
# # Lesson
