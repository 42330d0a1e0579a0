"""
The house stands as CONTRIBUTING.md says: calls go down only, rooms are for their family, and names say which is which.

Each rule is tried on houses that break it, too: a rule that sees nothing there would see nothing here.
"""

import ast
import re

import pytest

from tests.support import house_map, rooms
from tests.support.house import House, Unreadable

HOUSE = House()
CALLS = ["qmail_a_one.go", "qmail_a_two.go"]
ROOMS = [
    pytest.param(module, name, id=f"{module.name}.{name}")
    for module in HOUSE.called.values()
    for name in module.functions
    if module.is_room
]


@pytest.fixture
def built(tmp_path):
    """Build a house of modules: what each one calls, by its path; every one shows a function ``go``."""

    def built(modules):
        for path, calls in modules.items():
            file = tmp_path / f"_{path}.py"
            file.parent.mkdir(exist_ok=True)
            file.write_text(
                "\n".join(["def go():", *(f'    __salt__["{call}"]()' for call in calls), "    return None"])
            )
        return House(tmp_path)

    return built


def test_calls_go_down_only():
    assert "\n".join(HOUSE.circles()) == ""


def test_a_circle_of_modules_is_seen(built):
    found = built({"modules/qmail_a": ["qmail_a_one.go"], "modules/qmail_a_one": ["qmail_a.go"]}).circles()
    assert found == ["A circle: qmail_a is called by qmail_a_one is called by qmail_a."]


def test_a_circle_of_families_is_seen(built):
    found = built({"modules/qmail_a": [], "modules/qmail_a_one": ["qmail_b.go"], "modules/qmail_b": ["qmail_a.go"]})
    assert found.circles() == ["A circle: qmail_a is called by qmail_b is called by qmail_a."]


def test_a_call_from_the_ground_floor_is_seen(built):
    found = built({"modules/qmail_base_a": ["qmail_b.go"], "modules/qmail_b": []}).circles()
    assert found == ["qmail_base_a calls qmail_b.go (in go), and the ground floor calls nobody."]


def test_a_name_says_what_is_a_face_and_what_is_a_room_of_which():
    assert "\n".join(HOUSE.misnamed()) == ""


def test_a_room_without_a_face_is_seen(built):
    names = ("qmail_a", "qmail_a_one", "qmail_b_one", "qmail_base_c")
    found = built({f"modules/{name}": [] for name in names})
    assert found.misnamed() == ["qmail_b_one.py belongs to nobody: there is no face qmail_b."]


def test_a_state_without_a_face_is_seen(built):
    found = built({"modules/qmail_a": [], "states/qmail_a": [], "states/qmail_a_one": []}).misnamed()
    assert found == ["qmail_a_one.py belongs to nobody: there is no face qmail_a."]


def test_a_room_is_called_by_its_family_alone():
    assert "\n".join(HOUSE.intruders()) == ""


def test_an_intruder_is_seen(built):
    family = {"modules/qmail_a": ["qmail_a_one.go"], "modules/qmail_a_one": [], "states/qmail_a": ["qmail_a_one.go"]}
    found = built(
        {
            **family,
            "modules/qmail_b": ["qmail_a.go", "qmail_a_one.go", "qmail_base_c.go"],
            "modules/qmail_base_c": [],
        }
    )
    assert found.intruders() == ["qmail_b calls qmail_a_one.go (in go), a room of qmail_a."]


def test_a_room_of_the_other_side_is_seen(built):
    """Of the master's from a minion, or of a minion's from the master."""
    rooms = {"modules/qmail_a_one": [], "runners/qmail_a_two": []}
    called = {"modules/qmail_a": ["qmail_a_one.go", "qmail_a_two.go"], "runners/qmail_a": ["qmail_a.go", *CALLS]}
    assert built({**rooms, **called}).intruders() == [
        "qmail_a calls qmail_a_two.go (in go), which is elsewhere.",
        "the runner qmail_a calls qmail_a_one.go (in go), which is elsewhere.",
    ]


def test_two_rooms_of_one_name_are_seen(built):
    found = built({"modules/qmail_a": [], "modules/qmail_a_one": [], "runners/qmail_a_one": []}).misnamed()
    assert found == ["qmail_a_one.py is there twice: as a module, too."]


def test_what_is_called_is_there():
    assert "\n".join(HOUSE.missing()) == ""


def test_a_call_of_what_is_not_there_is_seen(built):
    found = built({"modules/qmail_a": ["qmail_b.gone", "qmail_c.go", "cmd.run"], "modules/qmail_b": []}).missing()
    assert found == [
        "qmail_a calls qmail_b.gone (in go), which is not there.",
        "qmail_a calls qmail_c.go, which is not there.",
    ]


def test_what_a_room_shows_is_called():
    assert "\n".join(HOUSE.unused()) == ""


def test_a_function_that_nobody_calls_is_seen(built):
    found = built({"modules/qmail_a": ["qmail_a_one.go"], "modules/qmail_a_one": [], "modules/qmail_a_two": []})
    assert found.unused() == ["qmail_a_two.go is called by no other module."]


def test_the_formula_knows_no_room():
    used = {name.partition(".")[0] for names in HOUSE.used().values() for name in names}
    assert used
    assert used <= set(HOUSE.faces)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ('def go():\n    return __salt__["qmail_a.x"]()', {"qmail_a.x"}),
        ('def go():\n    x = __salt__["qmail_a.x"]\n    return map(x, ())', {"qmail_a.x"}),
        ('def go():\n    return __salt__.get("qmail_a.x")', {"qmail_a.x"}),
        ('def go(a):\n    return __salt__["qmail_a.x" if a else "qmail_a.y"]()', {"qmail_a.x", "qmail_a.y"}),
        (
            'def go():\n    _do("x")\n    _do(verb="y")\n\ndef _do(verb):\n    return __salt__[f"qmail_a.{verb}"]()',
            {"qmail_a.x", "qmail_a.y"},
        ),
        ('if "qmail_a.x" in __salt__:\n    __salt__["qmail_a.x"]()', {"qmail_a.x"}),
        (
            'NAME = "x"\n\ndef go(a):\n    to = "a" if a else "b"\n    return __salt__[f"qmail_{to}.{NAME}"]()',
            {"qmail_a.x", "qmail_b.x"},
        ),
    ],
)
def test_a_call_is_read_however_it_is_written(tmp_path, source, names):
    assert read(tmp_path, "modules", source) == names


def test_what_a_runner_has_minions_do_is_read(tmp_path):
    assert read(tmp_path, "runners", 'def go():\n    _ask("mx*", "qmail_a.x")') == {"qmail_a.x"}


@pytest.mark.parametrize(
    "source",
    [
        "def go(name):\n    __salt__[name]()",
        "def go():\n    __salt__[_name()]()",
        "def go():\n    _do(__salt__)",
        "def go():\n    for call in __salt__.values():\n        call()",
    ],
)
def test_a_call_that_may_go_anywhere_is_an_error(tmp_path, source):
    with pytest.raises(Unreadable, match="line 2"):
        read(tmp_path, "modules", source)


def read(place, kind, source):
    (place / f"_{kind}").mkdir()
    (place / f"_{kind}/qmail_test.py").write_text(source)
    (module,) = House(place).modules
    return set().union(*(names for _, names in module.calls()))


@pytest.mark.parametrize(("module", "name"), ROOMS)
def test_the_documentation_of_a_room_says_whom_it_is_for(module, name):
    """Its last paragraph does. An example for a command line would be one for what nobody should call there."""
    documentation = ast.get_docstring(module.functions[name])
    said = " ".join(documentation.split("\n\n")[-1].split())
    assert said == rooms.whom(HOUSE, module, name), "run: make map"
    assert "CLI Example" not in documentation


@pytest.mark.parametrize(
    "before",
    [
        '"""Do it."""',
        '"""\n    Do it.\n    """',
        '"""\n    Do it.\n\n    For nobody.\n    """',
        '"""\n    Do it.\n\n    For ``qmail_b`` and the\n    state ``qmail_c``.\n    """',
        '"""\n    Do it.\n\n    CLI Example:\n\n    .. code-block:: bash\n\n        salt \'*\' qmail_a.go\n    """',
    ],
)
def test_whom_a_room_is_for_is_written_at_the_end_of_its_documentation(built, before):
    house = built(
        {"modules/qmail_a": ["qmail_a_one.go"], "modules/qmail_a_one": [], "states/qmail_a": ["qmail_a_one.go"]}
    )
    room = house.called["qmail_a_one"].path
    room.write_text(f"def go():\n    {before}\n    return None\n")
    rooms.write(House(house.root))
    whom = "For ``qmail_a`` and the state ``qmail_a``."
    assert room.read_text() == f'def go():\n    """\n    Do it.\n\n    {whom}\n    """\n    return None\n'


def test_the_map_is_that_of_the_calls():
    text = house_map.PAGE.read_text()
    assert text == house_map.drawn(text, HOUSE), "run: make map"


def test_the_map_shows_every_module():
    """Also those that call nobody and are called by nobody."""
    text = house_map.PAGE.read_text()
    for module in HOUSE.called.values():
        assert re.search(rf"\b{module.name}\[", text), module.name
