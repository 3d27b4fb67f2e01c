"""What is wrong with a configuration, all of it at once."""

from __future__ import annotations

from typing import NamedTuple


class ConfigProblem(NamedTuple):
    """One thing to mend: where, what, how. ``path`` is like ``carrier[1].window`` (counted from 0)."""

    file: str
    path: str
    fault: str
    remedy: str
    name: str = ""  # of the table it is in, when that has one

    def __str__(self) -> str:
        place = f"{self.file}: {self.path}" if self.path else self.file
        place += f' (of "{self.name}")' if self.name else ""
        said = f"{self.fault}. {self.remedy}" if self.remedy else self.fault
        return f"{place}: {said}" if place else said


class ConfigError(Exception):
    """The configuration cannot be used. ``problems`` holds every reason; the text shows one a line."""

    def __init__(self, problems: list[ConfigProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


class Findings:
    """Collects problems and warnings of one file; the first problem of a path wins, what follows from it is noise."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: dict[str, ConfigProblem] = {}
        self.warnings: list[ConfigProblem] = []

    def problem(self, path: str, fault: str, remedy: str, name: str = "") -> None:
        self.problems.setdefault(path, ConfigProblem(self.file, path, fault, remedy, name))

    def warn(self, path: str, fault: str, remedy: str, name: str = "") -> None:
        self.warnings.append(ConfigProblem(self.file, path, fault, remedy, name))

    def bad(self, path: str) -> bool:
        """Whether this key, or the table that holds it, was found faulty already."""
        return path in self.problems

    def raise_if_any(self) -> None:
        if self.problems:
            raise ConfigError(list(self.problems.values()))
