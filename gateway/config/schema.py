"""Every key of the configuration with its type and default.

``config/gateway.toml`` documents the same in prose; a test keeps the two equal. Durations are in seconds (in TOML a
number, or text like ``"30s"``, ``"10m"``, ``"6h"``, ``"3d"``). Paths are relative to the folder in which the gateway
starts. A secret is never printed and may come from a file: ``password_file`` instead of ``password``.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.smpp.status import RetryClass

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Seconds = Annotated[float, Meta(ge=1, le=366 * 86400, extra={"duration": True})]
Secret = Annotated[str, Meta(extra={"secret": True})]
_MARK = "'secret': True"  # as a mark above appears in the text of a type
Rate = Annotated[float, Meta(ge=0.01, le=1_000_000)]
Minutes = Annotated[int, Meta(ge=-1080, le=1080)]
Octet = Annotated[int, Meta(ge=0, le=255)]
CategoryName = Literal["otp", "transactional", "marketing", "emergency"]
RetryClassName = Literal["throttle", "queue_full", "retry", "session", "other", "permanent"]


def is_name(text: str) -> bool:
    """Whether a text is a valid name of an account or a carrier."""
    return re.match(_NAME, text) is not None


def is_secret(kind: object) -> bool:
    """Whether a field of this type holds one or more secrets."""
    return _MARK in str(kind)


class ConfigTable(msgspec.Struct, frozen=True, kw_only=True):
    """A table of the file, immutable; ``msgspec.structs.replace`` makes a changed copy."""

    def __repr__(self) -> str:
        """Return the keys that differ from the defaults, with secrets as dots, so that it can be logged."""
        shown = (
            f"{field.name}={'…' if is_secret(field.type) else repr(value)}"
            for field in msgspec.structs.fields(self)
            if (value := getattr(self, field.name)) != field.default and value != {}
        )
        return f"{type(self).__name__}({', '.join(shown)})"


class StoreConfig(ConfigTable, frozen=True, kw_only=True):
    """Where messages are stored."""

    url: Secret = "embedded"  # embedded | unix:// | redis:// | rediss:// | redis+cluster:// | rediss+cluster://
    data_dir: str = "data"
    durability: Literal["always", "everysec", "replicated"] = "always"
    partitions: Annotated[int, Meta(ge=1, le=1024)] = 8
    max_waiting: Annotated[int, Meta(ge=1)] = (
        10_000_000  # messages of all accounts; above it, new ones are refused (503)
    )

    @property
    def embedded(self) -> bool:
        return self.url == "embedded"


class HttpConfig(ConfigTable, frozen=True, kw_only=True):
    """The HTTP listener for apps."""

    listen: str = "127.0.0.1:8080"


class AdminConfig(ConfigTable, frozen=True, kw_only=True):
    """The listener for operators: health, metrics, controls. Everything but health requires a token."""

    listen: str = "127.0.0.1:8081"
    token: Secret = ""  # "" without operators: created at first start, in store.data_dir/admin.token
    read_token: Secret = ""  # read-only, for scraping /metrics
    operators: dict[str, Secret] = {}  # name -> token; the audit log records the name


class SmppConfig(ConfigTable, frozen=True, kw_only=True):
    """The SMPP server for apps. ``listen = ""`` disables the plain listener, ``tls_listen = ""`` the one with TLS."""

    listen: str = "127.0.0.1:2776"
    tls_listen: str = ""
    cert: str = ""
    key: str = ""
    client_ca: str = ""


class WebhookConfig(ConfigTable, frozen=True, kw_only=True):
    """Where events may be posted besides public https addresses, and for how long."""

    allow_networks: tuple[str, ...] = ()
    retry_for: Annotated[float, Meta(ge=1, le=30 * 86400, extra={"duration": True})] = (
        86400.0  # then events become dead letters
    )


class PolicyConfig(ConfigTable, frozen=True, kw_only=True):
    """The operator's rules; the laws are in the jurisdiction files."""

    jurisdictions: str = ""  # folder of *.toml; "": the files shipped with the gateway
    default_profile: str = "default"  # for recipients in countries without a jurisdiction file
    hours: str = ""  # narrows every profile, like "09:00-20:00"; cannot widen one
    default_zone: str = ""  # IANA zone for numbers without one; "": their marketing is refused (zone_unknown)
    on_quiet: Literal["defer", "reject"] = "defer"
    max_segments: Annotated[int, Meta(ge=1, le=255)] = 255
    allow_prefixes: tuple[Annotated[str, Meta(pattern=r"^\+[1-9][0-9]{0,14}$")], ...] = ()  # premium, satellite, …
    velocity: dict[str, str] = {}  # prefix ("*": all) -> messages per time of each account, "100/1m"
    otp_caps: tuple[str, ...] = ("1/1m", "5/1h", "10/1d")
    transactional_caps: tuple[str, ...] = ()
    marketing_caps: tuple[str, ...] = ()
    otp_expiry: Seconds = 600.0
    transactional_expiry: Seconds = 86400.0
    marketing_expiry: Seconds = 259200.0
    emergency_expiry: Seconds = 86400.0


class RetentionConfig(ConfigTable, frozen=True, kw_only=True):
    """How long records are kept and waited for, in seconds; client_ref and Idempotency-Key have fixed times."""

    finished: Seconds = 6 * 3600.0  # record of a message after its final status
    refused: Seconds = 24 * 3600.0  # record of a message that policy refused at submission
    id_map: Seconds = 72 * 3600.0  # carrier message id -> message
    receipt_timeout: Seconds = 72 * 3600.0  # until a sent message without a receipt becomes final
    unknown_hold: Seconds = 600.0  # how long an unanswered submit waits for a receipt before it is resent ("hold")
    resends: Annotated[int, Meta(ge=0, le=100)] = 3  # how often a message is resent after an unanswered submit
    orphans: Seconds = 25 * 3600.0  # receipts that match no message
    events: Annotated[int, Meta(ge=100)] = (
        20_000  # entries of a partition's event stream; the events of one call are one entry
    )


class PrivacyConfig(ConfigTable, frozen=True, kw_only=True):
    """Secrets that protect numbers and texts in the store.

    Empty: created at first start in ``store.data_dir``, mode 0600.
    """

    hashing_secret: Secret = ""  # base64 of 32 octets; must never change
    encryption_keys: dict[str, Secret] = {}  # id (0 to 255) -> base64 of 32 octets
    current_key: str = ""  # id of the key that encrypts; "": the highest


class LogConfig(ConfigTable, frozen=True, kw_only=True):
    """Log level and format."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"  # auto: console on a terminal, else json


class Account(ConfigTable, frozen=True, kw_only=True):
    """An app that submits messages."""

    name: Annotated[str, Meta(pattern=_NAME)]
    api_keys: tuple[Secret, ...] = ()
    system_id: Annotated[str, Meta(max_length=15)] = ""
    password: Secret = ""
    categories: tuple[CategoryName, ...] = ("otp", "transactional", "marketing")
    default_category: Literal["", "otp", "transactional", "marketing"] = ""
    brands: tuple[str, ...] = ()
    senders: tuple[str, ...] = ("*",)
    encoding: Literal["auto", "smart"] = "auto"  # smart: typographic characters are replaced where that avoids UCS-2
    rate: Annotated[float, Meta(ge=0, le=1_000_000)] = 1000.0
    max_queued: Annotated[int, Meta(ge=0)] = 1_000_000
    weight: Annotated[int, Meta(ge=1, le=1000)] = 1
    templates: dict[str, str] = {}  # name -> text with {placeholders}, filled from a message's ``vars``
    callback_url: str = ""
    webhook_secret: Secret = ""
    webhook_secrets: tuple[Secret, ...] = ()  # two valid ones while a secret is rotated
    webhook_batch: Annotated[int, Meta(ge=1, le=500)] = 100
    webhook_events: Literal["final", "all"] = "final"
    default_country: Annotated[str, Meta(pattern=r"^([A-Z]{2})?$")] = (
        ""  # ISO code, for numbers without + and country code
    )
    velocity: dict[str, str] = {}  # like [policy] velocity, for this account only
    allow_ips: tuple[str, ...] = ()
    max_binds: Annotated[int, Meta(ge=0, le=1000)] = 4

    @property
    def signing(self) -> tuple[str, ...]:
        """Every valid webhook secret."""
        return tuple(filter(None, (self.webhook_secret, *self.webhook_secrets)))

    @property
    def category(self) -> str:
        """The category of messages without one."""
        return self.default_category or "marketing"

    @property
    def brand(self) -> str:
        """The brand of messages without one."""
        return self.brands[0] if self.brands else self.name


class CarrierTlv(ConfigTable, frozen=True, kw_only=True):
    """A TLV that a carrier requires in every submit_sm.

    Its value comes from the first of ``metadata``, ``templates`` and ``value`` that has one for the message.
    """

    tag: Annotated[int, Meta(ge=0, le=0xFFFF)]
    type: Literal["string", "cstring", "int8", "int16", "int32", "hex"] = "string"
    metadata: Annotated[str, Meta(max_length=64)] = ""  # key in the message's metadata
    templates: dict[str, str] = {}  # template of the message -> value
    value: str = ""  # for every other message
    required: bool = False  # true: a message without a value is refused; false: sent without the TLV


class Carrier(ConfigTable, frozen=True, kw_only=True):
    """An SMSC the gateway binds to."""

    name: Annotated[str, Meta(pattern=_NAME)]
    hosts: Annotated[tuple[str, ...], Meta(min_length=1)]
    system_id: Annotated[str, Meta(max_length=15)]
    password: Secret
    bind: Literal["transceiver", "transmitter+receiver"] = "transceiver"
    binds: Annotated[int, Meta(ge=1, le=1000)] = 2
    window: Annotated[int, Meta(ge=1, le=10_000)] = 100
    rate: Annotated[float, Meta(ge=0, le=1_000_000)] = 500.0
    sender_rates: dict[str, Rate] = {}  # sender, or a prefix and * -> parts per second for each such sender
    on_unknown: Literal["resend", "hold", "never"] = "resend"
    system_type: Annotated[str, Meta(max_length=12)] = ""
    address_range: Annotated[str, Meta(max_length=40)] = ""
    bind_ton: Octet = 0
    bind_npi: Octet = 0
    interface_version: Literal["3.3", "3.4", "5.0"] = "3.4"
    service_type: Annotated[str, Meta(max_length=5)] = ""
    source_ton: Annotated[int, Meta(ge=-1, le=255)] = -1  # -1: derived from the sender
    source_npi: Annotated[int, Meta(ge=-1, le=255)] = -1
    dest_ton: Octet = 1
    dest_npi: Octet = 1
    number_format: Literal["digits", "plus"] = "digits"
    alphabet: Literal["gsm7", "latin1"] = "gsm7"
    default_alphabet: Literal["gsm7", "latin1", "ascii"] = "gsm7"  # what data_coding 0 means there
    long_messages: Literal["udh8", "udh16", "sar", "payload"] = "udh8"
    validity: Literal["absolute", "relative", "none"] = "absolute"
    time_zone: str = ""  # IANA zone of the SMSC, for absolute validities and receipt dates; "": UTC
    tlvs: tuple[CarrierTlv, ...] = ()
    registered_delivery: Annotated[int, Meta(ge=0, le=31)] = 1
    receipts: Literal["each", "last"] = "each"  # parts of a long message that get one
    receipt_text: bool = False  # true: esm_class 0 with the text of a receipt is a receipt
    id_form: Literal["auto", "as-is", "hex-to-dec", "dec-to-hex"] = "auto"
    receipt_key: Literal["recipient", "id"] = "recipient"
    country: Annotated[str, Meta(pattern=r"^([A-Z]{2})?$")] = ""  # ISO code, for national numbers in receipts; "": none
    enquire_interval: Annotated[float, Meta(ge=0.1, le=30, extra={"duration": True})] = (
        30.0  # so that a dead link is found within 45 s
    )
    response_timeout: Annotated[float, Meta(ge=0.1, le=3600, extra={"duration": True})] = 30.0
    first_sequence: Annotated[int, Meta(ge=1, le=0x7FFFFFFF)] = 1  # of each bind; for tests of the wrap-around
    tls: bool = False
    tls_name: str = ""  # name that its certificate must have; "": the host it is reached by
    ca: str = ""
    cert: str = ""
    key: str = ""
    status_table: dict[str, RetryClassName] = {}
    utc_offset: Annotated[Minutes | str, Meta(extra={"offset": True})] = ""  # of receipt dates: minutes, or a zone

    @property
    def clock(self) -> int | str:
        """The time zone of its receipt dates: minutes ahead of UTC, or an IANA zone."""
        return (self.time_zone or 0) if self.utc_offset == "" else self.utc_offset

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """``hosts`` as (host, port)."""
        return tuple(split_address(host) for host in self.hosts)

    @property
    def overrides(self) -> dict[int, RetryClass]:
        """``status_table`` for ``smpp.status.classify``."""
        return {int(status, 0): RetryClass[name.upper()] for status, name in self.status_table.items()}


class Route(ConfigTable, frozen=True, kw_only=True):
    """Which carriers send which messages.

    All conditions must match; the longest prefix wins, then the most conditions.
    """

    to: Annotated[str, Meta(pattern=r"^(\*|\+?[0-9]{1,15})$")] = "*"
    carriers: Annotated[tuple[str, ...], Meta(min_length=1)]
    name: Annotated[str, Meta(max_length=64)] = ""  # of its lanes in the store; "": derived from the conditions
    country: Annotated[str, Meta(pattern=r"^([A-Z]{2})?$")] = ""
    sender: str = ""
    category: Literal["", "otp", "transactional", "marketing", "emergency"] = ""
    account: str = ""
    weights: tuple[Annotated[int, Meta(ge=0)], ...] = ()
    overflow: bool = False

    @property
    def prefix(self) -> str:
        """Digits that the destination starts with; "": any."""
        return "" if self.to == "*" else self.to.lstrip("+")

    @property
    def lane(self) -> str:
        """The name of the route's lanes, given or derived from its conditions."""
        extra = (self.country, self.sender, self.category, self.account)
        return self.name or "/".join((f"+{self.prefix}" if self.prefix else "*", *filter(None, extra)))


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The whole configuration."""

    node: str = ""  # unique among gateways on one store; "": the host name, made unique on a shared store
    workers: Annotated[int, Meta(ge=1, le=1024)] = 1
    allow_examples: bool = False  # accept secrets from published examples though other machines reach a listener
    store: StoreConfig = StoreConfig()
    http: HttpConfig = HttpConfig()
    admin: AdminConfig = AdminConfig()
    smpp: SmppConfig = SmppConfig()
    webhooks: WebhookConfig = WebhookConfig()
    policy: PolicyConfig = PolicyConfig()
    retention: RetentionConfig = RetentionConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    log: LogConfig = LogConfig()
    accounts: tuple[Account, ...] = msgspec.field(default=(), name="account")
    carriers: tuple[Carrier, ...] = msgspec.field(default=(), name="carrier")
    routes: tuple[Route, ...] = msgspec.field(default=(), name="route")


def split_address(text: str) -> tuple[str, int]:
    """Return ``host:port`` or ``[v6]:port`` as (host, port). An empty host: every interface. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("no port")
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], int(port)
    if ":" in host or any(char.isspace() for char in host):
        raise ValueError("not host:port")
    return host, int(port)
