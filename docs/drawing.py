"""What the page "Draw a digit" loads beside what lies in `_static/draw`: the runtime, and the model of digits."""

import base64
import shutil
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "spyketorch"
RUNTIME = [PACKAGE / "export" / "runtimes" / name for name in ("reading.js", "runtime.js")]
MODEL = PACKAGE / "weights" / "digits.safetensors"


def write(folder: Path) -> None:
    """Into the folder in which the page's own scripts lie; a page that is opened as a file can load scripts alone."""
    for script in RUNTIME:
        shutil.copy(script, folder)
    text = base64.b64encode(MODEL.read_bytes()).decode()
    (folder / "model.js").write_text(f'const digitsModel = "{text}";\n', encoding="utf-8")
