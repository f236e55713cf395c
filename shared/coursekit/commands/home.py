"""`course home`."""


def home() -> None:
    """Write Home.ipynb anew: what comes next, the plan of the week, your points. Your own cells on it stay."""
    from rich.console import Console

    from coursekit import home as page

    Console(highlight=False).print(f"{page.build()} is up to date", markup=False, soft_wrap=True)
