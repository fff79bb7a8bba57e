"""Hold the sizes: no file over 400 lines, no function over 60."""

import ast
import sys
from pathlib import Path

FILE_LINES, FUNCTION_LINES = 400, 60
FOLDERS = ("src", "tests", "benchmarks", "examples", "docs", ".ci")

too_long = []
for path in sorted(p for folder in FOLDERS for p in Path(folder).rglob("*.py")):
    source = path.read_text(encoding="utf-8")
    if (lines := len(source.splitlines())) > FILE_LINES:
        too_long.append(f"{path}: {lines} lines, at most {FILE_LINES}")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                where = f"{path}:{node.lineno} {node.name}"
                too_long.append(f"{where}: {lines} lines, at most {FUNCTION_LINES}")
print("\n".join(too_long) or "Sizes: within the limits.")
sys.exit(bool(too_long))
