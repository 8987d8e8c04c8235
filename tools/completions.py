"""Write `cli/completion/` anew, from what the command line says of itself: `python -m tools.completions`."""

from pathlib import Path

from typer._completion_shared import get_completion_script

FOLDER = Path(__file__).resolve().parents[1] / "cli" / "completion"
FILES = {"bash": "quaymaster.bash", "zsh": "_quaymaster", "fish": "quaymaster.fish"}


def script(shell: str) -> str:
    """What makes a shell ask the command for what may come next."""
    made = get_completion_script(prog_name="quaymaster", complete_var="_QUAYMASTER_COMPLETE", shell=shell)
    return f"{made.strip()}\n"


def main() -> None:
    """Write one file for each shell."""
    for shell, name in FILES.items():
        (FOLDER / name).write_text(script(shell), encoding="utf-8")


if __name__ == "__main__":
    main()
