"""Imports point one way, `import swiftlet` is cheap and silent, and the checker of both can fail."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import swiftlet

ROOT = Path(swiftlet.__file__).parent

# Low to high. A room (a package, or a module beside __init__) imports itself and rooms that stand lower.
LEVELS = (
    ("errors", "_version"),
    ("files", "budget", "signals", "progress"),
    ("pack",),
    ("layers", "data", "cost"),
    ("compress",),
    ("zoo", "runtime", "export"),
    ("train",),
    ("recipes", "candidates"),
    ("plan", "check", "run", "quantizing"),
    ("gate", "timing", "doctor", "catalogue"),
    ("report", "study"),
    ("fitting", "training", "shrinking"),
    ("cli",),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
# room: the rooms that may import it
ONLY_FROM = {"report": {"fitting", "shrinking", "cli"}, "study": {"cli"}, "cli": {"__main__"}}


def read_modules(root: Path) -> dict[str, ast.Module]:
    """Module name -> syntax tree; a package goes by its own name."""
    trees = {}
    for path in sorted(root.rglob("*.py")):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        trees[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text(), str(path))
    return trees


def imports(trees: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Module -> modules of the same tree that it imports anywhere, inside functions too."""
    found: dict[str, set[str]] = {}
    for name, tree in trees.items():
        found[name] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names if alias.name in trees}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name}: imports are absolute"
                inner = {f"{node.module}.{alias.name}" for alias in node.names} & trees.keys()
                found[name] |= inner
                if node.module in trees and len(inner) < len(node.names):
                    found[name].add(node.module)
    return found


def room(module: str) -> str:
    return [*module.split("."), ""][1]  # "" is the package itself


def faults(found: dict[str, set[str]]) -> list[str]:
    """Every arrow that points up or sideways, and every circle."""
    wrong = []
    for name, targets in sorted(found.items()):
        source = room(name)
        for target in sorted(targets):
            goal = room(target)
            if source == "":
                bad = goal == "cli"
            elif goal == "":
                bad = True  # the package's own names are for users
            else:
                bad = source != goal and LEVEL[source] <= LEVEL[goal]
                bad |= source != goal and goal in ONLY_FROM and source not in ONLY_FROM[goal]
            if bad:
                wrong.append(f"{name} imports {target}")
    return wrong + circles(found)


def circles(found: dict[str, set[str]]) -> list[str]:
    done: set[str] = set()
    rings: list[str] = []

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            rings.append(" -> ".join([*path[path.index(name) :], name]))
        elif name not in done:
            for target in sorted(found[name]):
                visit(target, [*path, name])
            done.add(name)

    for name in sorted(found):
        visit(name, [])
    return rings


def test_imports_point_down_and_go_in_no_circle():
    trees = read_modules(ROOT)
    assert {room(name) for name in trees} - {""} == LEVEL.keys()  # a new room is given its place here
    found = imports(trees)
    assert sum(map(len, found.values())) > 100  # it sees the imports at all
    assert "swiftlet.cost.screen" in found["swiftlet.runtime.torch"]  # inside a function
    assert "swiftlet.fitting" in found["swiftlet"]  # from swiftlet import fitting
    assert faults(found) == []


@pytest.mark.parametrize(
    ("module", "line", "fault"),
    [
        ("cost.memory", "from swiftlet.zoo import create_model", "swiftlet.cost.memory imports swiftlet.zoo"),
        ("compress.fold", "import swiftlet.train.loop", "swiftlet.compress.fold imports swiftlet.train.loop"),
        ("data.deal", "def f():\n    from swiftlet.zoo import card", "swiftlet.data.deal imports swiftlet.zoo.card"),
        ("export.onnx", "from swiftlet import zoo", "swiftlet.export.onnx imports swiftlet.zoo"),
        ("export.golden", "import swiftlet.runtime", "swiftlet.export.golden imports swiftlet.runtime"),  # sideways
        ("gate", "from swiftlet.report.build import build_report", "swiftlet.gate imports swiftlet.report.build"),
        ("fitting", "import swiftlet.cli", "swiftlet.fitting imports swiftlet.cli"),
        ("", "from swiftlet.cli import main", "swiftlet imports swiftlet.cli"),
        ("budget", "from swiftlet import Cost", "swiftlet.budget imports swiftlet"),
        ("data.decode", "import swiftlet.data.audit", "swiftlet.data.audit -> swiftlet.data.listing"),  # a circle
        ("errors", "def f():\n    import swiftlet.budget", "swiftlet.errors imports swiftlet.budget"),
    ],
)  # fmt: skip
def test_the_checker_sees_a_planted_import(module, line, fault):
    trees = read_modules(ROOT)
    name = f"swiftlet.{module}".rstrip(".")
    before = faults(imports(trees))
    trees[name].body += ast.parse(line).body
    planted = [found for found in faults(imports(trees)) if found not in before]
    assert any(fault in found for found in planted), planted


WATCH = """
import json, sys
events = []
WRITES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "tempfile.mkstemp", "tempfile.mkdtemp")
def hook(event, args):
    if event == "open" and (set(str(args[1] or "")) & set("wax+") or (args[2] or 0) & 0o103):
        events.append(f"{event} {args[0]}")
    elif event.startswith("socket.") or event in WRITES or event == "subprocess.Popen":
        events.append(f"{event} {args}")
sys.addaudithook(hook)
%s
print(json.dumps([events, sorted(sys.modules)]))
"""


def watched(code: str, folder: Path) -> tuple[list[str], set[str]]:
    """What a fresh process wrote, connected to and imported; -B: Python's own bytecode files are not our doing."""
    command = [sys.executable, "-B", "-c", WATCH % code]
    environment = {"PYTHONPATH": str(ROOT.parent), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=True)
    assert done.stderr == ""
    events, modules = json.loads(done.stdout.splitlines()[-1])
    return [event for event in events if "/dev/null" not in event], set(modules)


HEAVY = {"onnx", "onnxruntime", "PIL", "jinja2", "rich", "typer", "scipy", "torchvision", "timm", "safetensors"}


def test_importing_swiftlet_opens_no_socket_writes_no_file_and_stays_light(tmp_path):
    events, modules = watched("import swiftlet", tmp_path)
    assert events == [] and not HEAVY & modules
    assert list(tmp_path.iterdir()) == []
    assert {name for name in modules if name.startswith("swiftlet.")} <= {
        f"swiftlet.{name}".rstrip(".")
        for name in (
            "_version", "budget", "errors", "cost", "cost.count", "cost.flow", "cost.formulas", "cost.memory",
            "cost.operations", "cost.tally",
            "layers", "layers.channels", "layers.conv_bn", "layers.init",
            "zoo", "zoo.card", "zoo.mobilenet_v1", "zoo.mobilenet_v2",
        )
    }  # fmt: skip


def test_the_watch_sees_sockets_files_and_imports(tmp_path):
    code = "import socket, PIL; socket.socket().close(); open('x', 'w').close(); __import__('os').mkdir('y')"
    events, modules = watched(code, tmp_path)
    assert [event.split()[0] for event in events] == ["socket.__new__", "open", "os.mkdir"] and "PIL" in modules


def test_the_public_names_are_there_and_in_order():
    tree = ast.parse((ROOT / "__init__.py").read_text())
    lazy = next(node for node in tree.body if isinstance(node, ast.If)).body
    for block in (tree.body, lazy):
        lines = [node for node in block if isinstance(node, ast.ImportFrom) and node.module.startswith("swiftlet")]
        names = [(node.module, alias.name) for node in lines for alias in node.names]
        assert names and names == sorted(names)
        for module, name in names:
            __import__(module)
            assert getattr(swiftlet, name) is getattr(sys.modules[module], name)
        assert all(alias.asname == alias.name for node in lines for alias in node.names)  # said to be public
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        swiftlet.fitt  # noqa: B018
