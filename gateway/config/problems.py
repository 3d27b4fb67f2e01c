"""Problems and warnings of a configuration, collected and reported together."""

from __future__ import annotations

from typing import NamedTuple


class ConfigProblem(NamedTuple):
    """One problem: where it is, what it is, how to fix it. ``path`` is like ``carrier[1].window``, from 0."""

    file: str
    path: str
    fault: str
    remedy: str
    name: str = ""  # of the table, if it has one

    def __str__(self) -> str:
        where = f"{self.file}: {self.path}" if self.path else self.file
        where += f' (of "{self.name}")' if self.name else ""
        text = f"{self.fault}. {self.remedy}" if self.remedy else self.fault
        return f"{where}: {text}" if where else text


class ConfigError(Exception):
    """The configuration cannot be used. ``problems`` holds every reason; the text has one per line."""

    def __init__(self, problems: list[ConfigProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


class Diagnostics:
    """Collects the problems and warnings of one file; only the first problem of each path is kept."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: dict[str, ConfigProblem] = {}
        self.warnings: list[ConfigProblem] = []

    def problem(self, path: str, fault: str, remedy: str, name: str = "") -> None:
        """Add a problem, unless the path has one."""
        self.problems.setdefault(path, ConfigProblem(self.file, path, fault, remedy, name))

    def warn(self, path: str, fault: str, remedy: str, name: str = "") -> None:
        """Add a warning."""
        self.warnings.append(ConfigProblem(self.file, path, fault, remedy, name))

    def has_problem(self, path: str) -> bool:
        """Whether a problem was added for this path."""
        return path in self.problems

    def raise_if_any(self) -> None:
        """Raise ConfigError when there are problems."""
        if self.problems:
            raise ConfigError(list(self.problems.values()))
