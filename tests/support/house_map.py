"""
Draw the map of the house into CONTRIBUTING.md, from the calls in the code: one drawing of all families, and one of each
family that has rooms. Forges show Mermaid as drawings.

    python -m tests.support.house_map
"""

from tests.support.house import FORMULA, GROUND, REPOSITORY, House

PAGE = REPOSITORY / "CONTRIBUTING.md"
BEGIN, END = "<!-- map: make map draws it -->\n", "<!-- end of map -->\n"
WIDTH = 20  # characters in a line of a box


def drawn(text, house):
    """Return a page with the map between its two marks."""
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"{PAGE.name} lacks {BEGIN.strip()} … {END.strip()}")
    return f"{before}{BEGIN}\n{_all(house)}\n{_each(house)}\n{END}{after}"


def _all(house):
    """Draw the families; a box holds the face and what is in the names of its rooms."""
    edges = {pair for pair in house.edges(lambda module: module.family) if GROUND not in pair}
    families = list(house.families)
    used = {name.partition(".")[0] for names in house.used().values() for name in names}
    lines = [f'formula(["{FORMULA}/*.sls"])']
    lines += [f'{family}["{_box(house, family)}"]' for family in families]
    lines += [f"formula --> {family}" for family in families if family in used]
    lines += [f"{by} --> {to}" for by in families for to in families if (by, to) in edges]
    lowest = [family for family in families if family != GROUND and not any(by == family for by, _ in edges)]
    lines += [f"{family} -. all .-> {GROUND}" for family in lowest]
    return _drawing(lines)


def _box(house, family):
    """Write the face's name, whatever else has that name, and below these the rooms in a few lines."""
    members = house.families[family]
    title = [f"and its {module.kind}s" for module in members if module.kind != "module" and not module.is_room]
    rooms = [module.name[len(family) + 1 :] for module in members if module.is_room]
    lines = [""]
    for room in rooms:
        if lines[-1] and len(f"{lines[-1]}, {room}") > WIDTH:
            lines.append("")
        lines[-1] = f"{lines[-1]}, {room}" if lines[-1] else room
    return "<br>".join(filter(None, (family, *title, *lines)))


def _each(house):
    parts = []
    for family, members in house.families.items():
        if any(module.is_room for module in members):
            parts.append(f"<details><summary>{family}</summary>\n\n{_family(house, family, members)}\n</details>\n")
    return "\n".join(parts)


def _family(house, family, members):
    """Draw the members of one family, and which other families they call; what all call is left out."""
    edges = {(by, to) for by, to in house.edges() if by.family == family}
    inside = sorted((pair for pair in edges if pair[1].family == family), key=str)
    outside = sorted({(_id(by), to.family) for by, to in edges if to.family not in (family, GROUND)})
    lines = [f"{_id(module)}{_shape(module)}" for module in members]
    lines += [f"{_id(by)} --> {_id(to)}" for by, to in inside]
    lines += [f'{by} --> to_{to}(["{to}"])' for by, to in outside]
    return _drawing(lines)


def _id(module):
    return module.name if module.kind == "module" or module.is_room else f"{module.kind}_{module.name}"


def _shape(module):
    """Write a box with the name of a face, or with what is in a room's name beside its family's."""
    room = module.name[len(module.family) + 1 :]
    if module.kind != "module":
        return f'[/"{room or f"{module.kind}s"}"/]'
    return f'["{room or module.name}"]'


def _drawing(lines):
    return "\n".join(["```mermaid", "flowchart TD", *(f"    {line}" for line in lines), "```", ""])


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text(), House()))
