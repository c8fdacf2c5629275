import pytest

from comfy_atelier.packer.requirements import Requirement, normalised, read_requirement


@pytest.mark.parametrize(
    "spec",
    [
        "packaging==24.2",
        "torch==2.5.1+cu124",
        "a==1!2.0.post1.dev3",
        "uvicorn[standard]==0.30.0",
        "x[a, b]==1",
        "packaging == 24.2",
        "x===1.0",
        "packaging==24.2 ; python_version >= '3.8'",
        "x==1; sys_platform == 'win32' and (python_version<'3.12' or extra=='y')",
        'x==1 ; platform_machine not in "arm64 aarch64"',
        "ruamel.yaml==0.18.6",
        "A_b-C.d==1",
    ],
)
def test_a_pinned_distribution_is_a_requirement(spec):
    assert isinstance(read_requirement(spec), Requirement)
    assert isinstance(read_requirement(spec, ""), Requirement)


def test_its_parts():
    assert read_requirement("Torch==2.5.1+cu124") == Requirement(
        spec="Torch==2.5.1+cu124", name="Torch", version="2.5.1+cu124"
    )
    assert read_requirement("x==1 ; os_name == 'nt'").marker == "os_name == 'nt'"
    found = read_requirement("thing", "git+https://github.com/example/thing@abc")
    assert (found.name, found.version, found.url) == ("thing", None, "git+https://github.com/example/thing@abc")
    assert normalised("A_b-C.d") == "a-b-c-d"


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "numpy",
        "numpy>=1",
        "numpy==1.*",
        "numpy==1,<2",
        "numpy ==  1",
        "-e .",
        "-r /etc/passwd",
        "-f https://example.org/",
        "-c https://example.org/c.txt",
        "--index-url https://example.org/simple",
        "--extra-index-url=https://example.org",
        "-e git+https://example.org/x.git#egg=x",
        "git+https://example.org/x.git",
        "https://example.org/x.whl",
        "/tmp/evil.whl",
        "./evil",
        "../evil",
        "evil.whl",
        "C:\\evil.whl",
        "numpy @ file:///tmp/evil.whl",
        "numpy @ https://example.org/x.whl",
        "x==1 --config-settings=--build-option=evil",
        "x==1 --hash=sha256:00",
        "x==1 -r y",
        "x==1;touch /tmp/x",
        "x==1; os_name",
        "x==1; os_name == 'a' or",
        "x==1; (os_name == 'a'",
        "x==1; os_name == 'a')",
        "x==1; os_name == os_name == 'a'",
        "x==1; __import__('os')",
        "x==1; os_name == '$(id)'",
        "x==1 # comment",
        "x==1\n--index-url https://example.org",
        "x==1\n",
        "x==1\r",
        "x==1\\",
        "$(id)==1",
        "x==$(id)",
        "x==${HF_TOKEN}",
        "numpу==1.0",
        "x==1\u2028y==2",
        "x==１",
        "x\x00==1",
        ".x==1",
        "x-==1",
        "x==1-",
        "x" * 200 + "==1",
    ],
)
def test_everything_else_is_refused(spec):
    assert isinstance(read_requirement(spec), str)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("numpy", "file:///tmp/evil.whl"),
        ("numpy", "/tmp/evil.whl"),
        ("numpy", "git+ssh://git@example.org/x"),
        ("numpy", "git+file:///tmp/x"),
        ("numpy", "http://example.org/x.whl"),
        ("numpy", "https://user:pass@example.org/x.whl"),
        ("numpy", "https://${HF_TOKEN}.example.org/x.whl"),
        ("numpy", "https://example.org/x.whl\n--index-url x"),
        ("numpy==1", "https://example.org/x.whl"),
        ("-e", "https://example.org/x.whl"),
        ("a b", "https://example.org/x.whl"),
    ],
)
def test_addresses_of_requirements(name, url):
    assert isinstance(read_requirement(name, url), str)


def test_a_bare_name_only_where_it_is_asked_for():
    assert read_requirement("fastapi", bare=True) == Requirement(spec="fastapi", name="fastapi")
    assert isinstance(read_requirement("-r", bare=True), str)
