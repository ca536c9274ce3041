"""The package as an application gets it: installed, and used as the README says."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path

import irohub
from tests.hubs import HERE, Case, Hub, soon

FOLDER = HERE.parent
README = (FOLDER / "README.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
PIPE = asyncio.subprocess.PIPE


def programs() -> dict[str, str]:
    """Those that the README names, by their first line."""
    return {found[1]: text for text in SNIPPETS if (found := re.match(r"# (\w+\.py)\n", text))}


class Package(Case):
    async def run_program(self, *args: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(*args, stdout=PIPE, stderr=asyncio.subprocess.STDOUT, cwd="/")
        output, _ = await asyncio.wait_for(process.communicate(), 300)
        return process.returncode, output.decode()

    async def converse(self, python: str, hub: Hub, folder: str) -> None:
        """Runs the README's two programs, as it says."""
        for name, text in programs().items():
            (Path(folder) / name).write_text(text)
        listener = await asyncio.create_subprocess_exec(
            python, f"{folder}/listen.py", hub.ticket, stdout=PIPE, stderr=PIPE, cwd="/"
        )
        try:
            assert listener.stdout
            self.assertEqual(await soon(listener.stdout.readline()), b"listening\n")
            self.assertEqual(await soon(self.run_program(python, f"{folder}/say.py", hub.ticket)), (0, ""))
            line = await soon(listener.stdout.readline())
            self.assertEqual(line.decode(), "message.sent:conv-123 {'text': 'hello'}\n")
            self.assertIn(line.decode().strip(), README)
            listener.send_signal(signal.SIGINT)  # which closes the spoke
            _, words = await soon(listener.communicate())
            self.assertIn(b"KeyboardInterrupt", words)
        finally:
            if listener.returncode is None:
                listener.kill()
                await listener.communicate()

    async def test_installed_with_pip(self) -> None:
        """Into an environment of its own, from a copy of the folder, as pip leaves things beside it."""
        with tempfile.TemporaryDirectory() as folder:
            python = f"{folder}/venv/bin/python"
            self.assertEqual(await self.run_program(sys.executable, "-m", "venv", f"{folder}/venv"), (0, ""))
            shutil.copytree(
                FOLDER, f"{folder}/irohub", ignore=lambda at, names: [n for n in names if n.startswith(".") or n == "tests"]
            )
            status, output = await self.run_program(python, "-m", "pip", "install", "--quiet", f"{folder}/irohub")
            if status and not os.environ.get("CI"):
                self.skipTest(f"pip needs a package index here: {output}")
            self.assertEqual(status, 0, output)
            code = (
                "import importlib.metadata, importlib.resources as r, irohub\n"
                "assert r.files(irohub).joinpath('py.typed').is_file()\n"
                "print(irohub.__version__, importlib.metadata.version('irohub'), irohub.__file__)"
            )
            status, output = await self.run_program(python, "-c", code)
            self.assertEqual(status, 0, output)
            version, declared, file = output.split()
            self.assertEqual((version, declared), (irohub.__version__, irohub.__version__))
            self.assertIn("site-packages", file)
            await self.converse(python, await self.hub("-forward"), folder)

    async def test_snippets(self) -> None:
        """Each piece of code of the README does what it says, or at least runs."""
        hub = await self.hub("-forward")
        pieces = [text for text in SNIPPETS if text not in programs().values()]
        self.assertGreaterEqual(len(pieces), 6)
        for text in pieces:
            with self.subTest(text):
                spoke = await self.spoke(hub.peer)
                names: dict[str, object] = {"irohub": irohub, "asyncio": asyncio, "print": lambda *_: None}
                exec(f"async def run(spoke, peer):\n{textwrap.indent(text, '    ')}", names)
                run = asyncio.create_task(names["run"](spoke, hub.peer))  # type: ignore[operator]
                while not run.done():
                    await hub.publish({"type": "alarm"}, {"type": "file", "id": "a"})
                    await asyncio.wait([run], timeout=0.05)
                run.result()


class Words(unittest.TestCase):
    def test_the_table_names_what_there_is(self) -> None:
        """Names of this package in docs/clients.md exist."""
        table = (HERE.parents[2] / "docs" / "clients.md").read_text()
        column = [cells[3] for line in table.splitlines() if len(cells := line.split("|")) == 6]
        named = {name for cell in column for name in re.findall(r"`irohub\.(\w+)", cell)}
        options = {name for cell in column for name in re.findall(r"`Options\.(\w+)", cell)}
        self.assertGreaterEqual(len(named), 8)
        self.assertEqual({name for name in named if not hasattr(irohub, name)}, set())
        self.assertEqual(options, set(irohub.Options.__dataclass_fields__))


if __name__ == "__main__":
    unittest.main()
