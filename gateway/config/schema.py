"""Every key of the configuration, its type, its default. ``config/gateway.toml`` documents the same in prose and a test
keeps the two equal.

Durations are seconds (in TOML: a number, or text such as ``"30s"``, ``"10m"``, ``"6h"``, ``"3d"``). Paths are relative
to the folder the gateway is started in. Text marked secret is never printed and may come from a file: ``password_file``
beside ``password``.
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
_MARK = "'secret': True"  # as the marks above show in a type's text
Rate = Annotated[float, Meta(ge=0.01, le=1_000_000)]
Minutes = Annotated[int, Meta(ge=-1080, le=1080)]
Octet = Annotated[int, Meta(ge=0, le=255)]
CategoryName = Literal["otp", "transactional", "marketing", "emergency"]
RetryClassName = Literal["throttle", "queue_full", "retry", "session", "other", "permanent"]


def is_name(text: str) -> bool:
    """Whether an account or a carrier may be called so."""
    return re.match(_NAME, text) is not None


def is_secret(kind: object) -> bool:
    """Whether a field of this type holds a secret, or several."""
    return _MARK in str(kind)


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A table of the file. All tables are immutable; ``msgspec.structs.replace`` makes a changed copy."""

    def __repr__(self) -> str:
        """What differs from the defaults; secrets as dots, so that it may be logged."""
        shown = (
            f"{field.name}={'…' if is_secret(field.type) else repr(value)}"
            for field in msgspec.structs.fields(self)
            if (value := getattr(self, field.name)) != field.default and value != {}
        )
        return f"{type(self).__name__}({', '.join(shown)})"


class StoreConfig(Section, frozen=True, kw_only=True):
    """Where messages live."""

    url: Secret = "embedded"  # embedded | unix:// | redis:// | rediss:// | redis+cluster:// | rediss+cluster://
    data_dir: str = "data"
    durability: Literal["always", "everysec", "replicated"] = "always"
    partitions: Annotated[int, Meta(ge=1, le=1024)] = 8
    max_waiting: Annotated[int, Meta(ge=1)] = 10_000_000  # messages of all accounts; beyond, new ones are refused (503)

    @property
    def embedded(self) -> bool:
        return self.url == "embedded"


class HttpConfig(Section, frozen=True, kw_only=True):
    """The door for apps."""

    listen: str = "127.0.0.1:8080"


class AdminConfig(Section, frozen=True, kw_only=True):
    """The door for operators: health, metrics, controls. Everything but health wants a token."""

    listen: str = "127.0.0.1:8081"
    token: Secret = ""  # "" and no operators: made at first start, in store.data_dir/admin.token
    read_token: Secret = ""  # may look and not touch: for what scrapes /metrics
    operators: dict[str, Secret] = {}  # name -> token, so that the audit says who


class SmppConfig(Section, frozen=True, kw_only=True):
    """The SMPP door for apps. ``listen = ""`` closes the clear one, ``tls_listen = ""`` (default) the other."""

    listen: str = "127.0.0.1:2776"
    tls_listen: str = ""
    cert: str = ""
    key: str = ""
    client_ca: str = ""


class WebhookConfig(Section, frozen=True, kw_only=True):
    """Where events may be posted to besides public https addresses."""

    allow_networks: tuple[str, ...] = ()
    retry_for: Annotated[float, Meta(ge=1, le=30 * 86400, extra={"duration": True})] = 86400.0  # then dead letters


class PolicyConfig(Section, frozen=True, kw_only=True):
    """Rules that are the operator's choice; the laws are in the jurisdiction files."""

    jurisdictions: str = ""  # folder of *.toml; "" = the files that come with the gateway
    default_profile: str = "default"  # for recipients in countries without a file of their own
    hours: str = ""  # narrows every profile, e.g. "09:00-20:00"; can only tighten
    default_zone: str = ""  # IANA zone for numbers that have none; "" = such marketing is refused (zone_unknown)
    on_quiet: Literal["defer", "reject"] = "defer"
    max_segments: Annotated[int, Meta(ge=1, le=255)] = 255
    allow_prefixes: tuple[Annotated[str, Meta(pattern=r"^\+[1-9][0-9]{0,14}$")], ...] = ()  # premium, satellite, …
    velocity: dict[str, str] = {}  # prefix, "*" = all -> messages per time of each account, "100/1m"
    otp_caps: tuple[str, ...] = ("1/1m", "5/1h", "10/1d")
    transactional_caps: tuple[str, ...] = ()
    marketing_caps: tuple[str, ...] = ()
    otp_expiry: Seconds = 600.0
    transactional_expiry: Seconds = 86400.0
    marketing_expiry: Seconds = 259200.0
    emergency_expiry: Seconds = 86400.0


class RetentionConfig(Section, frozen=True, kw_only=True):
    """How long things are kept and waited for, in seconds; client_ref and idempotency have fixed times."""

    finished: Seconds = 6 * 3600.0  # a message's record after its final state
    refused: Seconds = 24 * 3600.0  # the record of what policy refused at the door
    id_map: Seconds = 72 * 3600.0  # carrier id -> message
    receipt_timeout: Seconds = 72 * 3600.0  # sent without a receipt becomes final
    unknown_hold: Seconds = 600.0  # a submit without an answer waits so long for a receipt before it is resent ("hold")
    resends: Annotated[int, Meta(ge=0, le=100)] = 3  # how often a message whose submit was not answered is sent again
    orphans: Seconds = 25 * 3600.0  # receipts that match nothing
    events: Annotated[int, Meta(ge=100)] = 20_000  # entries of a partition's event stream; a call's events are one


class PrivacyConfig(Section, frozen=True, kw_only=True):
    """Secrets that hide numbers and texts in the store. Empty: made at first start in ``store.data_dir``, mode 0600."""

    hashing_secret: Secret = ""  # base64 of 32 octets; never changes
    encryption_keys: dict[str, Secret] = {}  # id (0 to 255) -> base64 of 32 octets
    current_key: str = ""  # the id that seals; "" = the highest


class LogConfig(Section, frozen=True, kw_only=True):
    """What is logged and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"  # auto = console on a terminal, else json


class Account(Section, frozen=True, kw_only=True):
    """An app that submits."""

    name: Annotated[str, Meta(pattern=_NAME)]
    api_keys: tuple[Secret, ...] = ()
    system_id: Annotated[str, Meta(max_length=15)] = ""
    password: Secret = ""
    categories: tuple[CategoryName, ...] = ("otp", "transactional", "marketing")
    default_category: Literal["", "otp", "transactional", "marketing"] = ""
    brands: tuple[str, ...] = ()
    senders: tuple[str, ...] = ("*",)
    encoding: Literal["auto", "smart"] = "auto"  # smart: typographic characters become plain ones where that is all
    rate: Annotated[float, Meta(ge=0, le=1_000_000)] = 1000.0
    max_queued: Annotated[int, Meta(ge=0)] = 1_000_000
    weight: Annotated[int, Meta(ge=1, le=1000)] = 1
    templates: dict[str, str] = {}  # name -> text with {places}, for messages that name one and give ``vars``
    callback_url: str = ""
    webhook_secret: Secret = ""
    webhook_secrets: tuple[Secret, ...] = ()  # two live ones while a secret is changed
    webhook_batch: Annotated[int, Meta(ge=1, le=500)] = 100
    webhook_events: Literal["final", "all"] = "final"
    default_country: Annotated[str, Meta(pattern=r"^([A-Z]{2})?$")] = ""  # ISO; of numbers without + and country code
    velocity: dict[str, str] = {}  # as [policy] velocity, for this account alone
    allow_ips: tuple[str, ...] = ()
    max_binds: Annotated[int, Meta(ge=0, le=1000)] = 4

    @property
    def signing(self) -> tuple[str, ...]:
        """Every live secret of its webhooks."""
        return tuple(filter(None, (self.webhook_secret, *self.webhook_secrets)))

    @property
    def category(self) -> str:
        """The category of a message that names none."""
        return self.default_category or "marketing"

    @property
    def brand(self) -> str:
        """The brand of a message that names none."""
        return self.brands[0] if self.brands else self.name


class CarrierTlv(Section, frozen=True, kw_only=True):
    """An optional parameter that a carrier wants in every submit_sm: the first of ``metadata``, ``templates`` and
    ``value`` that has something for the message."""

    tag: Annotated[int, Meta(ge=0, le=0xFFFF)]
    type: Literal["string", "cstring", "int8", "int16", "int32", "hex"] = "string"
    metadata: Annotated[str, Meta(max_length=64)] = ""  # key of the message's metadata that holds the value
    templates: dict[str, str] = {}  # name of the message's template -> value
    value: str = ""  # of every message
    required: bool = False  # a message without a value is refused; else it goes without the TLV


class Carrier(Section, frozen=True, kw_only=True):
    """An SMSC the gateway binds to."""

    name: Annotated[str, Meta(pattern=_NAME)]
    hosts: Annotated[tuple[str, ...], Meta(min_length=1)]
    system_id: Annotated[str, Meta(max_length=15)]
    password: Secret
    bind: Literal["transceiver", "transmitter+receiver"] = "transceiver"
    binds: Annotated[int, Meta(ge=1, le=1000)] = 2
    window: Annotated[int, Meta(ge=1, le=10_000)] = 100
    rate: Annotated[float, Meta(ge=0, le=1_000_000)] = 500.0
    sender_rates: dict[str, Rate] = {}  # sender, or its beginning and * -> parts a second for each such sender
    on_unknown: Literal["resend", "hold", "never"] = "resend"
    system_type: Annotated[str, Meta(max_length=12)] = ""
    address_range: Annotated[str, Meta(max_length=40)] = ""
    bind_ton: Octet = 0
    bind_npi: Octet = 0
    interface_version: Literal["3.3", "3.4", "5.0"] = "3.4"
    service_type: Annotated[str, Meta(max_length=5)] = ""
    source_ton: Annotated[int, Meta(ge=-1, le=255)] = -1  # -1 = by the look of the sender
    source_npi: Annotated[int, Meta(ge=-1, le=255)] = -1
    dest_ton: Octet = 1
    dest_npi: Octet = 1
    number_format: Literal["digits", "plus"] = "digits"
    alphabet: Literal["gsm7", "latin1"] = "gsm7"
    default_alphabet: Literal["gsm7", "latin1", "ascii"] = "gsm7"  # what data_coding 0 means there
    long_messages: Literal["udh8", "udh16", "sar", "payload"] = "udh8"
    validity: Literal["absolute", "relative", "none"] = "absolute"
    time_zone: str = ""  # the SMSC's own, IANA: of absolute validities, and of dates in receipts; "" = UTC
    tlvs: tuple[CarrierTlv, ...] = ()
    registered_delivery: Annotated[int, Meta(ge=0, le=31)] = 1
    receipts: Literal["each", "last"] = "each"  # part of a long message that gets one
    receipt_text: bool = False  # esm_class 0 with the text of a receipt is one
    id_form: Literal["auto", "as-is", "hex-to-dec", "dec-to-hex"] = "auto"
    receipt_key: Literal["recipient", "id"] = "recipient"
    country: Annotated[str, Meta(pattern=r"^([A-Z]{2})?$")] = (
        ""  # of national numbers in its receipts; "" = there are none
    )
    enquire_interval: Annotated[float, Meta(ge=0.1, le=30, extra={"duration": True})] = 30.0  # dead links: 45 s
    response_timeout: Annotated[float, Meta(ge=0.1, le=3600, extra={"duration": True})] = 30.0
    first_sequence: Annotated[int, Meta(ge=1, le=0x7FFFFFFF)] = 1  # of each bind; for tests of the wrap
    tls: bool = False
    tls_name: str = ""  # the name its certificate must carry; "" = the host it is reached by
    ca: str = ""
    cert: str = ""
    key: str = ""
    status_table: dict[str, RetryClassName] = {}
    utc_offset: Annotated[Minutes | str, Meta(extra={"offset": True})] = ""  # of dates in receipts: minutes, or a zone

    @property
    def clock(self) -> int | str:
        """The clock of dates in its receipts: minutes ahead of UTC, or an IANA zone."""
        return (self.time_zone or 0) if self.utc_offset == "" else self.utc_offset

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """``hosts`` as (host, port)."""
        return tuple(split_address(host) for host in self.hosts)

    @property
    def overrides(self) -> dict[int, RetryClass]:
        """``status_table`` as ``smpp.status.classify`` wants it."""
        return {int(status, 0): RetryClass[name.upper()] for status, name in self.status_table.items()}


class Route(Section, frozen=True, kw_only=True):
    """Which carriers take what. All conditions must hold; the longest prefix wins, then the most conditions."""

    to: Annotated[str, Meta(pattern=r"^(\*|\+?[0-9]{1,15})$")] = "*"
    carriers: Annotated[tuple[str, ...], Meta(min_length=1)]
    name: Annotated[str, Meta(max_length=64)] = ""  # of its lanes in the store; "" = made of the conditions
    country: Annotated[str, Meta(pattern=r"^([A-Z]{2})?$")] = ""
    sender: str = ""
    category: Literal["", "otp", "transactional", "marketing", "emergency"] = ""
    account: str = ""
    weights: tuple[Annotated[int, Meta(ge=0)], ...] = ()
    overflow: bool = False

    @property
    def prefix(self) -> str:
        """Digits that the destination starts with; "" = any."""
        return "" if self.to == "*" else self.to.lstrip("+")

    @property
    def lane(self) -> str:
        """The route's name, given or made of its conditions."""
        extra = (self.country, self.sender, self.category, self.account)
        return self.name or "/".join((f"+{self.prefix}" if self.prefix else "*", *filter(None, extra)))


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The whole configuration as the program sees it."""

    node: str = ""  # unique among gateways on one store; "" = the host's name, made unique on a shared store
    workers: Annotated[int, Meta(ge=1, le=1024)] = 1
    allow_examples: bool = False  # secrets that stand in examples, though other machines reach a listener
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
    """``host:port`` or ``[v6]:port`` as (host, port); an empty host means every interface. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("no port")
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], int(port)
    if ":" in host or any(char.isspace() for char in host):
        raise ValueError("not host:port")
    return host, int(port)
