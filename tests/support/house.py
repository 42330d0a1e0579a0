"""
The house, read from the code: which module calls which function of which other one.

Modules reach each other through ``__salt__["module.function"]`` alone, so nothing has to run for it. What is read has
to be complete: if the code does not show what is called, that is an error.
"""

import ast
import functools
import itertools
import pathlib
import re
from collections import namedtuple

import graphlib

REPOSITORY = pathlib.Path(__file__).parent.parent.parent
KINDS = {"_modules": "module", "_states": "state", "_beacons": "beacon", "_runners": "runner"}
ROOMED = ("module", "runner")  # what has rooms
GROUND = "qmail_base"
FORMULA = "qmail-doublebounce"
# In an SLS: a state's function, or salt["module.function"] in Jinja.
USED = re.compile(r"""^ +(?P<state>qmail_\w+\.\w+):|salt\[["'](?P<module>[\w.]+)["']\]""", re.MULTILINE)

# From a module, out of what stands at its top as ``within``, to a function of another module.
Call = namedtuple("Call", "by within to function")


# One reading for all who look at the code: each of them takes a second. Nobody may change what it returns.
parsed = functools.lru_cache(maxsize=None)(ast.parse)


class Unreadable(Exception):
    """A call that may go anywhere, or nowhere."""


class Module:
    """One file: what it defines at its top, and which names it calls."""

    def __init__(self, path):
        self.path, self.name, self.kind = path, path.stem, KINDS[path.parent.name]
        self.tree = parsed(path.read_text())
        self.tops = {name: node for node in self.tree.body for name in _names(node) or [f"line {node.lineno}"]}

    def __repr__(self):
        return self.name if self.kind == "module" else f"the {self.kind} {self.name}"

    @property
    def family(self):
        """The first two words of its name."""
        return "_".join(self.name.split("_")[:2])

    @property
    def is_room(self):
        """Return whether it is for its family alone. States and beacons are not called by anybody."""
        return self.kind in ROOMED and self.name != self.family

    @property
    def functions(self):
        """What Salt shows of it, by name."""
        return {
            name: node
            for name, node in self.tops.items()
            if isinstance(node, ast.FunctionDef) and not name.startswith("_")
        }

    def calls(self):
        """Yield from where each call goes, and the set of names that it may go to, such as qmail_log.count."""
        self._refuse_strays()
        for within, node in self.tops.items():
            for found in ast.walk(node):
                asked = self._asked(found)
                if asked is not None:
                    yield within, self._values(asked, node)

    def _asked(self, node):
        """Return the expression that names what is called; ``None`` where nothing is."""
        if self.kind == "runner":  # works on the master, and has minions call what it names
            return node if isinstance(node, ast.Constant) and re.fullmatch(r"qmail_\w+\.\w+", str(node.value)) else None
        if isinstance(node, ast.Subscript) and _is_salt(node.value):
            return node.slice
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_salt(node.func.value):
            return node.args[0]  # __salt__.get(…)
        return None

    def _refuse_strays(self):
        """Whoever is handed ``__salt__`` itself may call anything; to look whether something is in it is no call."""
        known = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Subscript) or (isinstance(node, ast.Attribute) and node.attr == "get"):
                known.append(node.value)
            elif isinstance(node, ast.Compare):
                known += node.comparators
        for node in ast.walk(self.tree):
            if _is_salt(node) and not any(node is one for one in known):
                raise Unreadable(f"{self.path}, line {node.lineno}: what is this __salt__ for?")

    def _values(self, node, top):
        """Return what a text may be, as a set."""
        if isinstance(node, ast.Constant):
            return {str(node.value)}
        if isinstance(node, ast.IfExp):
            return self._values(node.body, top) | self._values(node.orelse, top)
        if isinstance(node, ast.FormattedValue):
            return self._values(node.value, top)
        if isinstance(node, ast.JoinedStr):
            parts = [self._values(part, top) for part in node.values]
            return {"".join(texts) for texts in itertools.product(*parts)}
        given = [*self._assigned(node, top), *self._passed(node, top)]
        if not given:
            raise Unreadable(f"{self.path}, line {node.lineno}: what may {ast.unparse(node)} be?")
        return set().union(*(self._values(value, where) for value, where in given))

    def _assigned(self, name, top):
        """Return what is assigned to a variable where it is used, or else at the top of the module."""
        for where in (top, self.tree):
            found = [node for node in ast.walk(where) if isinstance(node, ast.Assign) and _is_to(node, name)]
            if found:
                return [(node.value, top) for node in found]
        return []

    def _passed(self, name, top):
        """Return what this module passes to a function of its own under the name of a parameter, and where."""
        names = [argument.arg for argument in top.args.args] if isinstance(top, ast.FunctionDef) else []
        if not isinstance(name, ast.Name) or name.id not in names:
            return []
        return [
            (_argument(node, name.id, names.index(name.id)), where)
            for where in self.tops.values()
            for node in ast.walk(where)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == top.name
        ]


class House:
    """All modules, and the rules that they keep; each rule returns what breaks it, as sentences."""

    def __init__(self, root=REPOSITORY):
        self.root = pathlib.Path(root)
        paths = [path for kind in KINDS for path in sorted((self.root / kind).glob("*.py"))]
        self.modules = [Module(path) for path in paths if not path.is_symlink()]
        # Rooms that a runner needs, too: a link brings them to the master with it.
        self.lent = {path.stem for path in paths if path.is_symlink()}
        self.called = {module.name: module for module in self.modules if module.kind == "module" or module.is_room}

    @property
    def faces(self):
        return [name for name, module in self.called.items() if not module.is_room]

    @property
    def families(self):
        """The members of each family, by its name: its states and the like, its face, its rooms."""
        found = {}
        for module in sorted(self.modules, key=lambda module: (module.kind == "module", module.name)):
            found.setdefault(module.family, []).append(module)
        return dict(sorted(found.items()))

    @functools.cached_property
    def calls(self):
        """All calls from one module of this house to another, as a sorted list."""
        found = set()
        for module in self.modules:
            for within, names in module.calls():
                found |= {
                    Call(module, within, self.called[name], function)
                    for name, _, function in (text.partition(".") for text in names)
                    if name in self.called and (function in self.called[name].functions or len(names) == 1)
                }
        return sorted(found, key=lambda call: (repr(call.by), call.within, call.to.name, call.function))

    def edges(self, key=lambda module: module):
        """Return who calls whom: a dict of sets of functions, by pairs of modules, or of what ``key`` makes of them."""
        found = {}
        for call in self.calls:
            by, to = key(call.by), key(call.to)
            if by != to:
                found.setdefault((by, to), set()).add(call.function)
        return found

    def callers(self, module, function):
        """Return the modules that call a function, states and the like last."""
        found = {call.by for call in self.calls if (call.to, call.function) == (module, function)}
        return sorted(found, key=lambda by: (by.kind != "module", by.kind, by.name))

    def floors(self, key=lambda module: module):
        """Return on which floor each one stands: 0 calls nobody, and the others stand above all that they call."""
        below = {key(module): set() for module in self.modules}
        for by, to in self.edges(key):
            below[by].add(to)
        found = {}
        for one in graphlib.TopologicalSorter(below).static_order():
            found[one] = max((found[to] + 1 for to in below[one]), default=0)
        return found

    def circles(self):
        """Calls go down only, from module to module and from family to family; and nobody is below the ground floor."""
        found = []
        for key in (lambda module: module, lambda module: module.family):
            try:
                self.floors(key)
            except graphlib.CycleError as err:
                found.append(f"A circle: {' is called by '.join(map(str, err.args[1]))}.")
        ground = (call for call in self.calls if call.by.family == GROUND != call.to.family)
        return found + [f"{_told(call)}, and the ground floor calls nobody." for call in ground]

    def misnamed(self):
        """Two words are a face; three or more are a room of the face that the first two name, or the ground floor."""
        families = (*self.faces, GROUND)
        return [
            f"{module.path.name} belongs to nobody: there is no face {module.family}."
            for module in self.modules
            if module.family not in families or (module.kind not in ROOMED and module.name != module.family)
        ] + [
            f"{module.path.name} is there twice: as a {module.kind}, too."
            for module in self.modules
            if module.is_room and self.called[module.name] is not module
        ]

    def intruders(self):
        """
        A room is called by its family alone, the ground floor by all; everybody else goes through the face. Those of
        runners are on the master, where only runners are; and what runners call elsewhere, they have minions do.
        """
        return [
            f"{_told(call)}, a room of {call.to.family}."
            for call in self.calls
            if call.to.is_room and call.to.family not in (GROUND, call.by.family)
        ] + [f"{_told(call)}, which is elsewhere." for call in self.calls if self._is_astray(call)]

    def _is_astray(self, call):
        """Return whether a call is of something that is on the other side: on the master, or on a minion."""
        if call.to.kind == "runner" or call.by.name in self.lent:
            return call.to.name not in self.lent and call.by.kind != "runner"
        return call.by.kind == "runner" and call.to.is_room and call.to.name not in self.lent

    def missing(self):
        """Whatever is called is there, and for others."""
        found = [f"{_told(call)}, which is not there." for call in self.calls if call.function not in call.to.functions]
        for module in self.modules:
            names = set().union(*(names for _, names in module.calls()))
            gone = [name for name in names if name.startswith("qmail_") and name.partition(".")[0] not in self.called]
            found += [f"{module!r} calls {name}, which is not there." for name in sorted(gone)]
        return found

    def unused(self):
        """Each function that a room shows is called by another module: what only the room itself calls is private."""
        return [
            f"{module.name}.{function} is called by no other module."
            for module in self.called.values()
            for function in module.functions
            if module.is_room and not self.callers(module, function)
        ]

    def used(self):
        """Return what each SLS uses: a dict of paths and of sets of states and functions."""
        return {
            path: {found["state"] or found["module"] for found in USED.finditer(path.read_text())}
            for path in sorted((self.root / FORMULA).rglob("*"))
            if path.suffix in (".sls", ".jinja")
        }


def told(callers):
    """Say whom a function is for, as its documentation does."""
    if not callers:
        return "For nobody."
    names = [f"``{by.name}``" if by.kind == "module" else f"the {by.kind} ``{by.name}``" for by in callers]
    return f"For {' and '.join(filter(None, (', '.join(names[:-1]), names[-1])))}."


def _told(call):
    return f"{call.by!r} calls {call.to.name}.{call.function} (in {call.within})"


def _names(node):
    """Return what a statement at the top of a module defines."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    return [name.id for name in getattr(node, "targets", []) if isinstance(name, ast.Name)]


def _is_salt(node):
    return isinstance(node, ast.Name) and node.id == "__salt__"


def _is_to(assignment, name):
    return any(isinstance(name, ast.Name) and ast.unparse(to) == name.id for to in assignment.targets)


def _argument(call, name, position):
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    return named[name] if name in named else call.args[position]
