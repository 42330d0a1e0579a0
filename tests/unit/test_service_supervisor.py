"""The names of what can run qmail-send stand in three places, for none of them may call another: they are the same."""

import pathlib

from _modules import qmail_doublebounce_settings, qmail_service_directory, qmail_service_supervisor
from tests.support import supervisors

PILLAR = pathlib.Path(__file__).parent.parent.parent / "pillar.example"
PROVIDERS = qmail_service_supervisor.PROVIDERS


def test_pillar_may_name_what_there_is():
    assert qmail_doublebounce_settings.CHOICES["service:provider"] == ("auto", *PROVIDERS)


def test_what_works_in_service_directories_is_known_as_such():
    assert tuple(qmail_service_directory.KINDS) == qmail_service_supervisor.TREES


def test_the_example_of_a_pillar_names_them_all():
    comment = PILLAR.read_text().partition("service:\n")[2].partition("provider:")[0]
    assert [name for name in PROVIDERS if name not in comment] == []


def test_each_is_run_by_the_tests():
    kinds = {made.kind for made in supervisors.ALL.values()}
    assert kinds == {*PROVIDERS, "systemd", "sysv"} - {"service"}
