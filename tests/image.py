"""What the Dockerfile and .dockerignore say, read the way Docker reads them; for tests, as no engine runs here."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Instruction:
    """One instruction, its lines joined: `RUN`, and what follows it."""

    name: str
    text: str

    @property
    def words(self) -> list[str]:
        return self.text.split()

    @property
    def command(self) -> list[str]:
        """The exec form in it: a JSON array."""
        found: list[str] = json.loads(self.text[self.text.index("[") :])
        return found


def instructions(dockerfile: str) -> list[Instruction]:
    """In order, without comments. A line that ends in a backslash goes on in the next."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", "", "\n".join(lines))
    parts = [line.strip().split(None, 1) for line in joined.splitlines() if line.strip()]
    return [Instruction(name.upper(), text) for name, text in parts]


def named(name: str) -> list[Instruction]:
    """Those of our Dockerfile under this name."""
    return [each for each in instructions((ROOT / "Dockerfile").read_text()) if each.name == name]


def copied() -> dict[str, str]:
    """Source in the build context → destination in the image; what comes from another stage is not among them."""
    pairs = [each.words for each in named("COPY") if not each.text.startswith("--from")]
    return {source: destination for *sources, destination in pairs for source in sources}


def environment() -> dict[str, str]:
    """The variables the image sets."""
    return dict(word.split("=", 1) for each in named("ENV") for word in each.words)


def context(root: Path) -> Iterator[str]:
    """Paths of the files that the build gets to see: not ignored, nor below a folder that is."""
    rules = [line.strip() for line in (ROOT / ".dockerignore").read_text().splitlines()]
    rules = [rule for rule in rules if rule and not rule.startswith("#")]
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if (path.is_file() or path.is_symlink()) and not _ignored(relative, rules):
            yield str(relative)


def assemble(target: Path) -> None:
    """Makes the image's working directory: what is copied, from the context, and nothing else."""
    seen = list(context(ROOT))
    for source, destination in copied().items():
        if not destination.startswith("./"):
            continue
        for path in seen:
            if path.startswith(f"{source}/"):
                place = target / destination / Path(path).relative_to(source)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(ROOT / path, place)


def _ignored(path: Path, rules: list[str]) -> bool:
    """The last rule that matches the path, or a folder above it, decides."""
    ignored = False
    for rule in rules:
        kept = rule.startswith("!")
        pattern = _regex(rule.removeprefix("!").strip("/"))
        if any(pattern.fullmatch(str(each)) for each in (path, *path.parents)):
            ignored = not kept
    return ignored


def _regex(rule: str) -> re.Pattern[str]:
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", rule)
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(meaning.get(piece, re.escape(piece)) for piece in pieces))
