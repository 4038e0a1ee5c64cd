"""API JSON to rows: pages of ``GET /users`` become the tables of :mod:`airflow_provider_aha.datasets.schemas`.

A page goes straight from bytes to Arrow. Only a page that isn't as documented (an unknown key, an id as a
number, a missing key) takes the way through Python objects, where it is made so, and joins the others.

Nothing here may call ``pa.array``, ``pa.scalar``, ``Table.group_by`` or ``pq.read_table``: each imports pandas
where that is installed, which costs a task more CPU and memory than all of its own work. Values enter Arrow
as JSON instead (:func:`airflow_provider_aha.common.arrow.json_array`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from airflow_provider_aha.api.pages import split_list_answer
from airflow_provider_aha.api.records import LONGEST_TEXT, read_json, without_mark
from airflow_provider_aha.common.arrow import json_array, literal, number_rows, read_json_table
from airflow_provider_aha.common.moments import milliseconds_text, moment_of
from airflow_provider_aha.datasets import schemas
from airflow_provider_aha.datasets.names import DATASETS

# Codes and names of https://www.aha.io/api/resources/users; 0 is seen in practice only.
WORKSPACE_ROLES = {
    20: ("product_owner", "Owner"),
    30: ("contributor", "Contributor"),
    35: ("developer", "Developer"),
    40: ("reviewer", "Reviewer"),
    50: ("viewer", "Viewer"),
    0: ("none", "None"),
}

# Keys without which a later decision would be a guess: their absence is counted, never filled in. The last two are
# absent also where they are no list, or where it can't be said which role that is, or where it holds.
REQUIRED_KEYS = (
    "email",
    "enabled",
    "created_at",
    "accessed_at",
    "paid_seat",
    "administrator",
    "administrator_roles",
    "product_roles",
    "user_roles",
)
_ADMINISTRATOR_ROLES = ("administer_account", "administer_billing", "administer_configuration")
_DAY_MS = 24 * 60 * 60 * 1000
_LONGEST_ID = 20

_PRODUCT_ROLE = pa.struct(
    [
        ("role", pa.int32()),
        ("role_description", pa.string()),
        ("product_id", pa.string()),
        ("product_name", pa.string()),
    ]
)
_SCOPE = pa.struct([("type", pa.string()), ("name", pa.string()), ("id", pa.int64())])
_USER_ROLE = pa.struct([("role_id", pa.int64()), ("name", pa.string()), ("scope", _SCOPE)])
_USER = pa.struct(
    [
        ("id", pa.string()),
        ("name", pa.string()),
        ("email", pa.string()),
        ("timezone", pa.string()),
        ("created_at", schemas.TIMESTAMP),
        ("updated_at", schemas.TIMESTAMP),
        ("accessed_at", schemas.TIMESTAMP),
        ("product_roles", pa.list_(_PRODUCT_ROLE)),
        ("user_roles", pa.list_(_USER_ROLE)),
        ("enabled", pa.bool_()),
        ("paid_seat", pa.bool_()),
        ("administrator", pa.bool_()),
        ("roadmaps_seat", pa.bool_()),
        ("develop_seat", pa.bool_()),
        ("administrator_roles", pa.struct([(name, pa.bool_()) for name in _ADMINISTRATOR_ROLES])),
        ("paid_seat_group", pa.struct([("id", pa.string()), ("name", pa.string())])),
        ("identity_provider", pa.struct([("type", pa.string()), ("name", pa.string())])),
        # Ours: what the slow way found out. No key of the API starts so.
        ("~extra", pa.string()),
        ("~absent_access", pa.bool_()),
        ("~lost_product_roles", pa.bool_()),
        ("~lost_user_roles", pa.bool_()),
    ]
)
_PAGINATION = pa.struct([("total_records", pa.int64()), ("total_pages", pa.int64()), ("current_page", pa.int64())])
_PAGE = pj.ParseOptions(
    explicit_schema=pa.schema([("users", pa.list_(_USER)), ("pagination", _PAGINATION)]),
    unexpected_field_behavior="error",
)


class UsersPage:
    """A page of ``GET /users`` in Arrow; a :class:`airflow_provider_aha.api.pages.Page`.

    ``absent`` counts by decisive key of how many users it can't be said, ``repaired`` in how many places half a
    character was replaced.

    :param body: the answer's bytes.
    :raises ValueError: when the body is no page of users.
    """

    def __init__(self, body: bytes) -> None:
        self.absent: Counter[str] = Counter()
        self.repaired = 0
        table = self._parse(body)
        self._take(table.column("users").chunk(0).flatten(), table.column("pagination").chunk(0)[0])
        self.absent.update(_users_with_odd_roles(self.users))

    def _take(self, users: pa.StructArray, pagination: pa.StructScalar) -> None:
        self.users = users
        self.total_records: int = pagination["total_records"].as_py()
        self.total_pages: int = pagination["total_pages"].as_py()
        self.number: int = pagination["current_page"].as_py()
        self.ids: list[str] = users.field("id").to_pylist()

    @classmethod
    def several(cls, bodies: Sequence[bytes]) -> list[UsersPage]:
        """Make the pages of several answers: together where all are as documented, which costs a quarter less.

        :param bodies: the answers' bytes.
        :return: the pages, in the same order.
        :raises ValueError: when one of the bodies is no page of users.
        """
        table = _read_if_documented(bodies)
        if table is None:
            return [cls(body) for body in bodies]
        users, pagination = table.column("users").chunk(0), table.column("pagination").chunk(0)
        pages = [cls._of(users[at].values, pagination[at]) for at in range(len(bodies))]
        # Once for all, since hardly ever anything is odd.
        if _users_with_odd_roles(users.flatten()):
            for page in pages:
                page.absent.update(_users_with_odd_roles(page.users))
        return pages

    @classmethod
    def _of(cls, users: pa.StructArray, pagination: pa.StructScalar) -> UsersPage:
        page = cls.__new__(cls)
        page.absent = Counter()
        page.repaired = 0
        page._take(users, pagination)
        return page

    def _parse(self, body: bytes) -> pa.Table:
        if (table := _read_if_documented([without_mark(body)])) is not None:
            return table
        answer, self.repaired = read_json(body)
        records, pagination = split_list_answer(answer, "users")
        try:
            numbers = {name: _int64(pagination[name]) for name in _PAGINATION.names}
        except (KeyError, TypeError, OverflowError, ValueError):
            raise ValueError("the pagination lacks a number") from None
        extras = [_take_unknown(record) for record in records]
        # Most often a key is new and all else as documented: Arrow finds that out sooner than Python.
        users = [record | {"~extra": _json(extra)} for record, extra in zip(records, extras, strict=True)]
        if (table := _read_if_documented([_page_of(users, numbers)])) is not None:
            return table
        users = [_documented_user(*parts, self.absent) for parts in zip(records, extras, strict=True)]
        return read_json_table(_page_of(users, numbers), _PAGE)


def _page_of(users: list[dict[str, Any]], pagination: dict[str, int]) -> bytes:
    return orjson.dumps({"users": users, "pagination": pagination})


def _json(extra: dict[str, Any]) -> str | None:
    if not extra:
        return None
    text = orjson.dumps(extra)
    return text.decode() if len(text) <= LONGEST_TEXT else f'{{"~not_kept_bytes":{len(text)}}}'


def _read_if_documented(bodies: Sequence[bytes]) -> pa.Table | None:
    # Arrow's reader ends the whole process on a body that is null.
    if not all(body.startswith(b"{") for body in bodies):
        return None
    joined = b"\n".join(bodies)
    try:
        table = read_json_table(joined, _PAGE)
        # The reader lets bytes through that are no UTF-8.
        table.validate(full=True)
    except pa.ArrowInvalid:
        return None
    if table.num_rows != len(bodies) or not _is_as_documented(table, joined):
        return None
    # Only a long body holds a long text.
    if max(map(len, bodies)) > LONGEST_TEXT and not all(map(_is_short, _texts(table.column("users").chunk(0)))):
        return None
    return table


def _is_as_documented(table: pa.Table, body: bytes) -> bool:
    """Tell whether no part is null that should not be, and no absent key hides behind a null."""
    users, pagination = table.column("users").chunk(0), table.column("pagination").chunk(0)
    if users.null_count or any(column.null_count for column in (pagination, *pagination.flatten())):
        return False
    users = users.flatten()
    ids = users.field("id")
    never_null = (
        users,
        ids,
        *users.field("administrator_roles").flatten(),
        users.field("product_roles").flatten(),
        users.field("user_roles").flatten(),
    )
    if any(column.null_count for column in never_null) or not _are_ids(ids):
        return False
    # Inside JSON text a quote is escaped, so these bytes can only be a key of a user.
    return all(
        users.field(key).null_count == 0 or body.count(f'"{key}":'.encode()) == len(users) for key in REQUIRED_KEYS
    )


def _are_ids(ids: pa.StringArray) -> bool:
    return not len(ids) or (pc.all(pc.ascii_is_decimal(ids)).as_py() and _is_short(ids, _LONGEST_ID))


def _is_short(texts: pa.StringArray, most: int = LONGEST_TEXT) -> bool:
    return (pc.max(pc.binary_length(texts)).as_py() or 0) <= most


def _texts(part: pa.Array) -> Iterator[pa.StringArray]:
    """Yield all texts of a user, at any depth."""
    if pa.types.is_string(part.type):
        yield part
    elif pa.types.is_list(part.type):
        yield from _texts(part.flatten())
    elif pa.types.is_struct(part.type):
        for inner in part.flatten():
            yield from _texts(inner)


def _users_with_odd_roles(users: pa.StructArray) -> dict[str, int]:
    """Count the users of whom it can't be said which roles they have, or where."""
    found = {}
    for name, oddities in (("product_roles", _odd_product_roles), ("user_roles", _odd_user_roles)):
        roles, lost = users.field(name), users.field(f"~lost_{name}")
        odd = oddities(roles.flatten())
        if roles.null_count or lost.null_count < len(lost) or pc.any(odd).as_py():
            parents = pc.list_parent_indices(roles).cast(_INT64).filter(odd)
            here = pc.or_(pc.is_null(roles), pc.is_valid(lost))
            found[name] = len(pc.unique(pa.concat_arrays([parents, pc.indices_nonzero(here).cast(_INT64)])))
    return found


def _odd_product_roles(items: pa.StructArray) -> pa.BooleanArray:
    # A role that is not among the known ones may be any, also one that gives much.
    known = pc.index_in(items.field("role"), value_set=_ROLE_CODES)
    return pc.or_(pc.is_null(known), pc.is_null(items.field("product_id")))


def _odd_user_roles(items: pa.StructArray) -> pa.BooleanArray:
    scope = items.field("scope")
    nowhere = pc.and_(pc.is_valid(scope), pc.is_null(pc.struct_field(scope, "id")))
    return pc.or_(pc.is_null(items.field("role_id")), nowhere)


def _take_unknown(record: dict[str, Any]) -> dict[str, Any]:
    return {key: record.pop(key) for key in list(record) if key not in _USER_READERS}


def _documented_user(record: dict[str, Any], extra: dict[str, Any], absent: Counter[str]) -> dict[str, Any]:
    """Make one user as documented; what loses something by that is kept in ``~extra`` as it came."""
    user, lossy = _known_parts(record, _USER_READERS)
    absent.update(key for key in REQUIRED_KEYS[:-2] if key not in user)
    for key in REQUIRED_KEYS[-2:]:
        user[f"~lost_{key}"] = True if _has_lost_roles(record.get(key), user.get(key)) else None
    if (rights := user.get("administrator_roles")) is not None and len(rights) < len(_ADMINISTRATOR_ROLES):
        absent["administrator_roles"] += 1
    user["~absent_access"] = True if "accessed_at" not in user else None
    user["~extra"] = _json(extra | lossy)
    return user


def _has_lost_roles(sent: Any, known: Any) -> bool:
    """Tell whether roles were sent that left nothing, or lost the place where they hold."""
    if not isinstance(sent, list) or known is None:
        return False
    scopes = sum(isinstance(role, dict) and role.get("scope") is not None for role in sent)
    return len(known) < len(sent) or sum(role.get("scope") is not None for role in known) < scopes


_Reader = Callable[[Any], Any]


class _PartlyReadError(ValueError):
    """A value has parts that can't be read; ``known`` holds the others."""

    def __init__(self, known: Any) -> None:
        super().__init__()
        self.known = known


def _known_parts(record: dict[str, Any], readers: Mapping[str, _Reader]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take an object apart: the fields that can be read, and those, as they came, that lose something by it."""
    known: dict[str, Any] = {}
    lossy: dict[str, Any] = {}
    for key, value in record.items():
        reader = readers.get(key)
        if reader is None:
            lossy[key] = value
        elif value is None or type(value) is _READ_AS_IS.get(reader):
            known[key] = value
        else:
            try:
                known[key] = reader(value)
            except _PartlyReadError as error:
                known[key], lossy[key] = error.known, value
            except (ValueError, TypeError, AttributeError, OverflowError):
                lossy[key] = value
    return known, lossy


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise TypeError
    text = str(value)
    if len(text) > LONGEST_TEXT:
        raise ValueError
    return text


def _address(value: Any) -> str:
    # A number is nobody's.
    if not isinstance(value, str):
        raise TypeError
    return _text(value)


def _flag(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise TypeError


_READ_AS_IS: dict[_Reader, type] = {_flag: bool}


def _integer(bits: int) -> _Reader:
    limit = 2 ** (bits - 1)

    def read(value: Any) -> int:
        number = int(_text(value))
        if not -limit <= number < limit:
            raise OverflowError
        return number

    return read


_int32, _int64 = _integer(32), _integer(64)


_DOCUMENTED_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")


def _timestamp(value: Any) -> str:
    moment = datetime.fromisoformat(value)
    if _DOCUMENTED_TIMESTAMP.fullmatch(value):
        return str(value)
    return milliseconds_text(moment_of(moment))


def _object(**readers: _Reader) -> _Reader:
    def read(value: Any) -> dict[str, Any]:
        known, lossy = _known_parts(value, readers)
        if lossy:
            raise _PartlyReadError(known)
        return known

    return read


def _list(reader: _Reader) -> _Reader:
    def read(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise TypeError
        known, whole = [], True
        for item in value:
            try:
                known.append(reader(item))
            except _PartlyReadError as error:
                known.append(error.known)
                whole = False
            except AttributeError:
                whole = False
        if not whole:
            raise _PartlyReadError(known)
        return known

    return read


_USER_READERS: dict[str, _Reader] = {
    "id": _text,
    "name": _text,
    "email": _address,
    "timezone": _text,
    "created_at": _timestamp,
    "updated_at": _timestamp,
    "accessed_at": _timestamp,
    "product_roles": _list(_object(role=_int32, role_description=_text, product_id=_text, product_name=_text)),
    "user_roles": _list(_object(role_id=_int64, name=_text, scope=_object(type=_text, name=_text, id=_int64))),
    "enabled": _flag,
    "paid_seat": _flag,
    "administrator": _flag,
    "roadmaps_seat": _flag,
    "develop_seat": _flag,
    "administrator_roles": _object(**dict.fromkeys(_ADMINISTRATOR_ROLES, _flag)),
    "paid_seat_group": _object(id=_text, name=_text),
    "identity_provider": _object(type=_text, name=_text),
}

_STRING, _INT32, _INT64 = pa.string(), pa.int32(), pa.int64()
_ROLE_CODES = json_array(list(WORKSPACE_ROLES), _INT32)
_ROLES = json_array([role for role, _ in WORKSPACE_ROLES.values()], _STRING)
_ROLE_NAMES = json_array([name for _, name in WORKSPACE_ROLES.values()], _STRING)
_NONE_ROLE = literal("none", _STRING)
_NULL_TEXT = literal(None, _STRING)
_NULL_INT32 = literal(None, _INT32)
_TRUE = json_array([True], pa.bool_())
_FALSE = literal(False, pa.bool_())
_ZERO, _ONE, _ONE_DAY = (literal(number, _INT64) for number in (0, 1, _DAY_MS))
_STATUS = {
    word: literal(word, _STRING)
    for word in ("disabled", "never_seen", "active", "inactive_30", "inactive_60", "inactive_90", "unknown")
}


class Normalizer:
    """Makes the rows of one snapshot; every row carries where and when it was read.

    :param subdomain: the account.
    :param connection_id: the connection's id, never its key.
    :param synced_at: when the read began; UTC.
    :param workspace_names: names by workspace id, for those that the user list leaves null.
    """

    def __init__(
        self, *, subdomain: str, connection_id: str, synced_at: datetime, workspace_names: Mapping[str, str]
    ) -> None:
        self.duplicates_removed = 0
        self.unnamed: set[str] = set()
        self._synced_at = literal(_timestamp(synced_at.isoformat()), schemas.TIMESTAMP)
        self._origin = (literal(subdomain, _STRING), literal(connection_id, _STRING), self._synced_at)
        self._workspace_ids = json_array(list(workspace_names), _STRING)
        self._workspace_names = json_array(list(workspace_names.values()), _STRING)

    def tables(self, pages: Sequence[UsersPage], datasets: Sequence[str] = DATASETS[:3]) -> dict[str, pa.Table]:
        """Make the tables of a run of pages.

        :param pages: one page or more.
        :param datasets: some of ``users``, ``user_roles`` and ``user_role_summary``.
        :return: table by dataset.
        """
        users = pa.concat_arrays([page.users for page in pages])
        roles = _Roles(users, self)
        makers: dict[str, Callable[[], pa.Table]] = {
            "users": lambda: self._users(users, roles.workspace_counts()),
            "user_roles": roles.table,
            "user_role_summary": roles.summary,
        }
        return {name: makers[name]() for name in datasets}

    def _users(self, users: pa.StructArray, workspace_counts: pa.Array) -> pa.Table:
        part = dict(zip(users.type.names, users.flatten(), strict=True))
        administers = dict(zip(_ADMINISTRATOR_ROLES, part["administrator_roles"].flatten(), strict=True))
        group = part["paid_seat_group"].flatten()
        provider = part["identity_provider"].flatten()
        days = self.days_inactive(part["accessed_at"])
        columns = {
            **{name: part[name] for name in schemas.USERS.names if name in part},
            "is_enabled": part["enabled"],
            "is_paid_seat": part["paid_seat"],
            "is_administrator": part["administrator"],
            **{name.replace("administer_", "administers_"): flags for name, flags in administers.items()},
            "has_roadmaps_seat": part["roadmaps_seat"],
            "has_develop_seat": part["develop_seat"],
            "paid_seat_group_id": group[0],
            "paid_seat_group_name": group[1],
            "identity_provider_type": provider[0],
            "identity_provider_name": provider[1],
            "workspace_count": workspace_counts,
            "occupies_seat": pc.and_kleene(part["enabled"], part["paid_seat"]),
            "days_inactive": days,
            "activity_status": activity_status(part["enabled"], days, part["~absent_access"]),
            "extra_json": part["~extra"],
            **self.origin(len(users)),
        }
        return _table(columns, schemas.USERS)

    def days_inactive(self, accessed_at: pa.Array) -> pa.Array:
        """Return the whole days from the last visits to the read.

        :param accessed_at: the visits, or null.
        """
        elapsed = pc.subtract(self._synced_at.cast(_INT64), accessed_at.cast(_INT64))
        # An account's clock may be ahead of ours: nobody was seen in the future.
        return pc.max_element_wise(pc.divide(elapsed, _ONE_DAY), _ZERO, skip_nulls=False).cast(_INT32)

    def origin(self, rows: int) -> dict[str, pa.Array]:
        """Return the columns that say where and when the rows were read.

        :param rows: their length.
        """
        names = ("subdomain", "connection_id", "synced_at")
        return {name: pa.repeat(value, rows) for name, value in zip(names, self._origin, strict=True)}

    def name_workspaces(self, ids: pa.Array, names: pa.Array) -> pa.Array:
        """Fill the names that the user list left null, and note what stays unnamed.

        :param ids: workspace ids.
        :param names: their names, or null.
        """
        if not names.null_count:
            return names
        if len(self._workspace_ids):
            places = pc.index_in(ids, value_set=self._workspace_ids)
            names = pc.coalesce(names, self._workspace_names.take(places))
        self.unnamed.update(pc.unique(ids.filter(pc.is_null(names)).drop_null()).to_pylist())
        return names


class _Roles:
    """The roles of a run of users, one row per user, workspace and role."""

    def __init__(self, users: pa.StructArray, normalizer: Normalizer) -> None:
        self._users = users
        self._normalizer = normalizer
        rows = _in_user_order(_workspace_roles(users), _custom_roles(users))
        rows["role_key"] = self._role_key(rows)
        self._rows = self._without_duplicates(rows)
        names = normalizer.name_workspaces(self._rows["workspace_id"], self._rows["workspace_name"])
        self._rows["workspace_name"] = names

    def _without_duplicates(self, rows: dict[str, pa.Array]) -> dict[str, pa.Array]:
        key = _pair(_pair(rows["user"], rows["workspace_id"]), rows["role_key"])
        first = pc.unique(key)
        if len(first) == len(key):
            return rows
        self._normalizer.duplicates_removed += len(key) - len(first)
        places = pc.index_in(first, value_set=key)
        return {name: column.take(places) for name, column in rows.items()}

    @staticmethod
    def _role_key(rows: dict[str, pa.Array]) -> pa.Array:
        # A custom role's id may equal a workspace role's code.
        return pc.binary_join_element_wise(
            rows["role_kind"], rows["role_id"], literal("/", _STRING), null_handling="replace", null_replacement=""
        )

    def table(self) -> pa.Table:
        rows, users = self._rows, self._users
        columns = {
            **rows,
            "user_id": users.field("id").take(rows["user"]),
            "user_email": users.field("email").take(rows["user"]),
            "user_name": users.field("name").take(rows["user"]),
            **self._normalizer.origin(len(rows["user"])),
        }
        return _table(columns, schemas.USER_ROLES)

    def workspace_counts(self) -> pa.Array:
        """Count the workspaces in which each user has a role other than none; null when roles are unknown."""
        rows = self._rows
        grants = pc.fill_null(pc.not_equal(rows["role"], _NONE_ROLE), _TRUE[0])
        user, workspace = rows["user"].filter(grants), rows["workspace_id"].filter(grants)
        first = pc.index_in(pc.unique(key := _pair(user, workspace)), value_set=key)
        counted = pc.value_counts(user.take(first))
        everybody = number_rows(len(self._users))
        places = pc.index_in(everybody, value_set=counted.field("values"))
        counts = pc.fill_null(counted.field("counts").take(places), _ZERO).cast(_INT32)
        known = pc.and_(*(pc.is_valid(self._users.field(name)) for name in ("product_roles", "user_roles")))
        return pc.if_else(known, counts, _NULL_INT32)

    def summary(self) -> pa.Table:
        """Fold the rows to one per user and role, with the names of its workspaces."""
        rows = self._rows
        key = _pair(rows["user"], rows["role_key"])
        order = pc.array_sort_indices(key)
        starts = _run_starts(key.take(order))
        offsets = pa.concat_arrays([starts, json_array([len(key)], _INT32)])
        named = pc.coalesce(rows["workspace_name"], rows["workspace_id"]).take(order)
        firsts = order.take(starts)
        columns = {
            **{name: column.take(firsts) for name, column in rows.items()},
            "workspace_count": pc.subtract(offsets[1:], starts),
            "workspaces": pa.ListArray.from_arrays(offsets, named),
        }
        users = self._users.take(columns["user"])
        columns |= {"user_id": users.field("id"), "user_email": users.field("email")}
        return _table(columns, schemas.USER_ROLE_SUMMARY)


def _workspace_roles(users: pa.StructArray) -> dict[str, pa.Array]:
    roles = users.field("product_roles")
    items = roles.flatten()
    code, place = items.field("role"), pc.index_in(items.field("role"), value_set=_ROLE_CODES)
    return {
        "user": pc.list_parent_indices(roles).cast(_INT64),
        "role_kind": pa.repeat(literal("workspace", _STRING), len(items)),
        "workspace_id": items.field("product_id"),
        "workspace_name": items.field("product_name"),
        "role_id": code.cast(_STRING),
        "role": _ROLES.take(place),
        "role_name": pc.coalesce(items.field("role_description"), _ROLE_NAMES.take(place)),
        "role_rank": code,
    }


def _custom_roles(users: pa.StructArray) -> dict[str, pa.Array]:
    roles = users.field("user_roles")
    items = roles.flatten()
    scope = items.field("scope").flatten()
    return {
        "user": pc.list_parent_indices(roles).cast(_INT64),
        "role_kind": pa.repeat(literal("custom", _STRING), len(items)),
        "workspace_id": scope[2].cast(_STRING),
        "workspace_name": scope[1],
        "role_id": items.field("role_id").cast(_STRING),
        "role": pa.repeat(_NULL_TEXT, len(items)),
        "role_name": items.field("name"),
        "role_rank": pa.repeat(_NULL_INT32, len(items)),
    }


def _in_user_order(first: dict[str, pa.Array], second: dict[str, pa.Array]) -> dict[str, pa.Array]:
    if not len(second["user"]):
        return first
    both = {name: pa.concat_arrays([column, second[name]]) for name, column in first.items()}
    order = pc.array_sort_indices(both["user"])
    return {name: column.take(order) for name, column in both.items()}


def _pair(numbers: pa.Array, values: pa.Array) -> pa.Array:
    """Make one number of a number and a value, the same for the same two; numbers keep their order."""
    encoded = pc.dictionary_encode(values, null_encoding="encode")
    base = literal(len(encoded.dictionary) + 1, _INT64)
    return pc.add(pc.multiply(numbers, base), encoded.indices.cast(_INT64))


def _run_starts(ordered: pa.Array) -> pa.Array:
    """Return where a new value begins in an ordered array."""
    if not len(ordered):
        return json_array([], _INT32)
    return pc.indices_nonzero(pa.concat_arrays([_TRUE, pc.not_equal(ordered[1:], ordered[:-1])])).cast(_INT32)


def activity_status(enabled: pa.Array, days: pa.Array, unknown: pa.Array) -> pa.Array:
    """Name each user's activity; who can't be judged is ``unknown``, never ``never_seen``.

    :param enabled: whether each is enabled.
    :param days: whole days since the last visit, or null.
    :param unknown: not null for those whose last visit isn't known, though there may have been one.
    """
    status = pa.repeat(_STATUS["active"], len(days))
    for threshold in (30, 60, 90):
        reached = pc.greater_equal(days, literal(threshold, _INT32))
        status = pc.if_else(reached, _STATUS[f"inactive_{threshold}"], status)
    status = pc.if_else(pc.is_null(days), _STATUS["never_seen"], status)
    status = pc.if_else(pc.is_valid(unknown), _STATUS["unknown"], status)
    status = pc.if_else(pc.equal(enabled, _FALSE), _STATUS["disabled"], status)
    return pc.coalesce(status, _STATUS["unknown"])


def _table(columns: Mapping[str, pa.Array], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)
