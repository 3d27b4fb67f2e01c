"""What a configuration must not hold: secrets that everybody knows, callbacks to private places. Who may read it."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

import pytest

from gateway.config import ConfigError, load, load_text, read
from gateway.config.examples import is_example
from tests.config.test_load import CARRIER, CONFIG, warnings


def faults(text: str) -> dict[str, str]:
    """Path -> the line shown; {} for a text that is good."""
    try:
        load_text(text, "gw.toml", {})
    except ConfigError as error:
        return {problem.path: str(problem) for problem in error.problems}
    return {}


OPEN = 'http.listen = "0.0.0.0:8080"\n'
KNOWN = {
    "account[0].api_keys[0]": '[[account]]\nname = "a"\napi_keys = ["sha256:{}"]'.format(sha256(b"demo").hexdigest()),
    "account[0].webhook_secret": '[[account]]\nname = "a"\napi_keys = []\ncallback_url = "https://app.example/"\n'
    'webhook_secret = "whsec_c2VjcmV0IG9mIHRoZSBmaXJzdCBmaXZlIG1pbnV0ZXM="',
    "admin.read_token": 'admin.read_token = "for-prometheus-on-this-machine-only"',
    "account[0].password": '[[account]]\nname = "a"\nsystem_id = "a"\npassword = "secret"',
    "carrier[0].password": CARRIER.replace('"127.0.0.1:2775"', '"smpp.north.example:2775"').replace(
        '"pass"', '"secret"'
    ),
}


@pytest.mark.parametrize("path", KNOWN)
def test_example_secrets_are_refused_on_listeners_open_to_others(path: str) -> None:
    for listens in (OPEN, 'admin.listen = "[::]:8081"\n', 'smpp.tls_listen = "10.0.0.1:2777"\n'):
        assert "example" in faults(listens + KNOWN[path])[path]
    assert path not in faults(KNOWN[path])  # on this machine alone they do no harm
    assert path not in faults(OPEN + "allow_examples = true\n" + KNOWN[path])


def test_every_secret_in_our_examples_is_known() -> None:
    """What stands in README, compose file and demo is what is refused elsewhere."""
    root = CONFIG.parent
    text = "".join(path.read_text() for path in (root / "README.md", CONFIG / "compose" / "compose.yaml"))
    secrets = {*re.findall(r"whsec_[\w+/=]{20,}", text), *re.findall(r"READ_TOKEN:-([^}]+)\}", text)}
    assert len(secrets) == 2
    assert [one for one in secrets if not is_example(one)] == []
    demo = load(CONFIG / "demo.toml", {"NORTH_PORT": "1", "SOUTH_PORT": "2"})
    assert [key for account in demo.accounts for key in account.api_keys if not is_example(key)] == []


@pytest.mark.parametrize(
    "url",
    [
        "http://app.example/in",  # in clear to anybody
        "https://127.0.0.1/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://0300.0250.1/",
        "https://localhost/",
        "https://x.localhost./",
        "https://LOCALHOST./",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:7f00:1]/",
        "https://[64:ff9b::a00:1]/",
        "https://[fe80::1%25eth0]/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://app.example@127.0.0.1/",
        "https://app.example\\\\@127.0.0.1/",
        "https://１２７.0.0.1/",
        "https://%31%32%37.0.0.1/",
        "https://app.example:22/",
        "https://app.example/#x",
        "https://app.example /",
        "ftp://app.example/",
        "https:///x",
    ],
)
def test_a_callback_to_a_private_address_is_refused_in_every_notation(url: str) -> None:
    text = f'[[account]]\nname = "a"\napi_keys = []\ncallback_url = "{url}"\n'
    assert "invalid URL" in faults(text)["account[0].callback_url"]


def test_a_callback_to_an_allowed_network_is_accepted() -> None:
    named = '[webhooks]\nallow_networks = ["10.0.0.0/8"]\n[[account]]\nname = "a"\ncallback_url = "{}"\n'
    for url in ("http://10.1.2.3:9000/in", "https://10.1/", "https://app.example:8443/in?key=1"):
        assert faults(named.format(url)) == {}
    assert "account[0].callback_url" in faults(named.format("http://192.168.0.1/"))
    signed = named.format("http://app.example/") + f'webhook_secret = "whsec_{"QUJD" * 11}"\n'
    assert "plain http to a host name" in warnings(signed)["account[0].callback_url"]


@pytest.mark.parametrize("text", ["", "\n \n", "# nothing\n  # but words\n"])
def test_an_empty_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="is empty"):
        read(file)
    pem = tmp_path / "ca.pem"
    pem.touch()
    assert "is empty" in faults(f'smpp.client_ca = "{pem}"')["smpp.client_ca"]


def test_a_file_with_secrets_that_others_can_read_is_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"

    def told(text: str, mode: int) -> list[str]:
        file.write_text(text)
        file.chmod(mode)
        return [str(warning) for warning in read(file, {"P": "x"}).warnings if "any user" in str(warning)]

    mine = CARRIER.replace('"pass"', '"hush"')
    (said,) = told(mine, 0o644)
    assert "carrier[0].password: a secret that any user of this machine can read. Run chmod o-r" in said
    assert told(mine, 0o640) == told(mine.replace('"hush"', '"${P}"'), 0o644) == []
    assert "any user of this machine can change it" in told(mine, 0o646)[0]
