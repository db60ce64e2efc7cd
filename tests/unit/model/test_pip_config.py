from pathlib import Path

from snugly.model.sources import index, pip_config
from snugly.model.sources.pip_config import Indexes


def test_without_any_configuration() -> None:
    assert pip_config.read({}, []) == Indexes(("https://pypi.org/simple",))


def test_a_file_then_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\nindex-url = https://a/simple\nextra-index-url = https://b/simple\n"
        "    file:///c\nfind_links = /wheels\n[download]\ncert = /d.pem\n[install]\nproxy = no\n"
    )
    read = pip_config.read({}, [file])
    assert read.indexes == ("https://a/simple", "https://b/simple", "file:///c")
    assert (read.find_links, read.cert, read.proxy) == (("/wheels",), "/d.pem", "")
    read = pip_config.read({"PIP_INDEX_URL": "https://e", "PIP_PROXY": "http://p:1"}, [file])
    assert read.indexes[0] == "https://e"
    assert read.proxy == "http://p:1"


def test_our_own_setting_leaves_all_others_out() -> None:
    env = {"PIP_INDEX_URL": "https://a", "PIP_FIND_LINKS": "/w", "PIP_CERT": "/c.pem"}
    assert pip_config.read(env, [], only="https://b") == Indexes(("https://b",), (), "/c.pem")


def test_no_index_and_uv() -> None:
    assert pip_config.read({"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/w"}, []).indexes == ()
    assert pip_config.read({"UV_DEFAULT_INDEX": "https://u"}, []).indexes == ("https://u",)


def test_a_broken_file_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_bytes(b"\xff\x00[[[")
    assert pip_config.read({}, [tmp_path / "pip.conf", tmp_path / "none"]) == pip_config.read(
        {}, []
    )


def test_files_on_each_system() -> None:
    home = Path("/home/ada")
    linux = pip_config.files({"XDG_CONFIG_DIRS": "/x:/y"}, home, "Linux")
    assert linux[:3] == (Path("/y/pip/pip.conf"), Path("/x/pip/pip.conf"), Path("/etc/pip.conf"))
    assert home / ".config/pip/pip.conf" in linux
    assert Path("/Library/Application Support/pip/pip.conf") in pip_config.files({}, home, "Darwin")
    windows = pip_config.files({"APPDATA": "/r"}, home, "Windows")
    assert Path("/r/pip/pip.ini") in windows
    assert windows[-1].name == "pip.ini"
    assert pip_config.files({"PIP_CONFIG_FILE": "/dev/null"}, home, "Linux") == ()
    assert pip_config.files({"PIP_CONFIG_FILE": "/z"}, home, "Linux")[-1] == Path("/z")


WHEEL = "tiny-1.0-py3-none-any.whl"


def test_a_listing_as_html_and_as_json() -> None:
    page = f'<a href="../other.whl">o</a><a href="../../f/{WHEEL}#sha256=00">w</a>'
    assert index.in_listing(page, "https://i/simple/tiny/", WHEEL) == f"https://i/f/{WHEEL}"
    json = f'{{"files": [{{"filename": "x", "url": "https://f/{WHEEL}"}}]}}'
    assert index.in_listing(json, "https://i/simple/tiny/", WHEEL) == f"https://f/{WHEEL}"
    for broken in ("", "{", '{"files": 3}', "<a href>", f"<a href='x{WHEEL}'>"):
        assert index.in_listing(broken, "https://i/simple/tiny/", WHEEL) == ""


def test_an_address_is_shown_without_its_password() -> None:
    assert index.shown("https://me:hunter2@host:8/simple?t=1") == "https://host:8/simple"
