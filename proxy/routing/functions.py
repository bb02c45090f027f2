"""What calling a function means for routing and caching.

A function is judged by the catalogue. The tables here only say more about functions of PostgreSQL's
own, where `provolatile` says too little; they count only for names that no other schema defines.
Checked against pg_proc of PostgreSQL 18: 248 names are volatile and 541 stable.
"""

from dataclasses import dataclass

from proxy.sql.catalogue import Catalogue, Volatility


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


HARMLESS_VOLATILE = _names(
    # Clock, chance and waiting: another value each call, but nothing written and no state read.
    # (After setseed, random does read session state; setseed pins the session.)
    "clock_timestamp timeofday random random_normal gen_random_uuid uuidv4 uuidv7 "
    "array_sample array_shuffle pg_sleep pg_sleep_for pg_sleep_until "
    # Sizes of files and the shape of partitions, which replicas have as the primary has them.
    "pg_relation_size pg_table_size pg_indexes_size pg_total_relation_size pg_database_size "
    "pg_tablespace_size pg_partition_tree pg_partition_ancestors"
)
"""Volatile functions that a replica may run."""

RUNS_QUERIES = _names(
    # They run a query, or a cursor's, that is given as text: it may call anything.
    "query_to_xml query_to_xmlschema query_to_xml_and_xmlschema cursor_to_xml cursor_to_xmlschema "
    "ts_stat ts_rewrite "
    # They read tables that are named by their arguments.
    "table_to_xml table_to_xml_and_xmlschema schema_to_xml schema_to_xml_and_xmlschema "
    "database_to_xml database_to_xml_and_xmlschema"
)
"""Functions that read tables which the statement's text doesn't name."""

READS_CONNECTION = _names(
    # What this connection did before: its sequences, cursors, large objects, statements, locks.
    "currval lastval cursor_to_xml cursor_to_xmlschema lo_open lo_close loread lowrite lo_lseek "
    "lo_lseek64 lo_tell lo_tell64 lo_truncate lo_truncate64 pg_cursor pg_prepared_statement "
    "pg_listening_channels pg_my_temp_schema pg_advisory_unlock pg_advisory_unlock_shared "
    "pg_advisory_unlock_all pg_export_snapshot pg_replication_origin_session_is_setup "
    "pg_replication_origin_session_progress pg_replication_origin_session_reset "
    "pg_replication_origin_xact_setup pg_replication_origin_xact_reset "
    # Who this connection is.
    "pg_backend_pid"
)
"""Functions that need the session's own connection."""

DIFFERS_BY_NODE = _names(
    # Addresses, start times, settings and activity are the server's own.
    "inet_server_addr inet_server_port pg_postmaster_start_time pg_conf_load_time pg_config "
    "current_setting pg_show_all_settings pg_settings_get_flags pg_get_replication_slots "
    "pg_is_other_temp_schema pg_tablespace_location pg_relation_filepath "
    # Transaction numbers: a standby assigns none, and sees others' later.
    "txid_current txid_current_if_assigned txid_current_snapshot pg_current_xact_id "
    "pg_current_xact_id_if_assigned pg_current_snapshot"
)
"""Stable functions whose answer is about the server that runs them, besides pg_stat_get_*."""

PINS = {
    "pg_advisory_lock": "holds an advisory lock",
    "pg_advisory_lock_shared": "holds an advisory lock",
    "pg_try_advisory_lock": "holds an advisory lock",
    "pg_try_advisory_lock_shared": "holds an advisory lock",
    "setseed": "has seeded random()",
    "pg_replication_origin_session_setup": "has set up a replication origin",
}
"""Functions that leave state on their connection, and which."""

DETERMINED = _names(
    # Stable only because they read settings (TimeZone, DateStyle, lc_*, the client's encoding, …),
    # which are part of a cache key. None looks at the clock, the catalogue or statistics. By name,
    # so every variant must qualify: age(timestamp) reads the clock, timezone(zone, timetz) too.
    "to_char to_date to_timestamp to_number date_trunc date_part date_add date_subtract "
    "extract make_timestamptz date time timestamp timestamptz overlaps "
    "generate_series length numeric money concat concat_ws format quote_literal "
    "quote_nullable array_to_string to_json to_jsonb array_to_json row_to_json json_agg "
    "jsonb_agg json_agg_strict jsonb_agg_strict json_object_agg jsonb_object_agg "
    "json_object_agg_strict jsonb_object_agg_strict json_object_agg_unique "
    "jsonb_object_agg_unique json_object_agg_unique_strict jsonb_object_agg_unique_strict "
    "json_build_array jsonb_build_array json_build_object jsonb_build_object"
)
"""Stable functions whose result arguments and settings determine: they may be cached."""

PLAIN = _names(
    "abs array_agg array_append array_cat array_length array_position array_prepend "
    "array_remove array_to_string array_upper array_lower avg bit_and bit_or bool_and bool_or "
    "btrim cardinality ceil ceiling char_length character_length coalesce concat concat_ws "
    "count cume_dist date date_part date_trunc dense_rank div every exp extract first_value "
    "floor format generate_series greatest initcap json_agg json_build_array "
    "json_build_object json_object_agg jsonb_agg jsonb_array_elements "
    "jsonb_array_elements_text jsonb_build_array jsonb_build_object jsonb_object_agg lag "
    "last_value lead least left length ln log lower lpad ltrim max md5 min mod now ntile "
    "nth_value nullif octet_length percent_rank percentile_cont percentile_disc position "
    "power rank regexp_match regexp_matches regexp_replace repeat replace reverse right round "
    "row_number row_to_json rpad rtrim sign split_part sqrt starts_with stddev stddev_pop "
    "stddev_samp string_agg string_to_array strpos substr substring sum to_char to_date "
    "to_json to_jsonb to_number to_timestamp translate trim trunc unnest upper var_pop "
    "var_samp variance width_bucket"
)
"""Immutable and stable functions that everybody uses: all that counts as harmless before the
catalogue is loaded. A function of the same name in the search_path would only be reached with other
argument types, and a standby refuses its writes."""

ANY_TABLE = "*"
"""The epoch name of the whole database."""


@dataclass(frozen=True, slots=True)
class Call:
    """One function that a statement calls, judged."""

    name: str
    primary: str | None = None
    """Why the primary must run it; None: any node may."""
    uncacheable: str | None = None
    """Why its result can't be cached."""
    opaque: bool = False
    """It may write any table."""
    reads_unknown: bool = False
    """It may read tables that the statement doesn't name."""
    needs_session: bool = False
    pins: str | None = None


def judge_call(name: str, catalogue: Catalogue) -> Call | None:
    """The function called `name` (as in `Statement.functions`); None if there is no such function,
    so that the name is a type's, an alias or an error that PostgreSQL will report."""
    schema, _, bare = name.rpartition(".")
    if not catalogue.loaded:
        if bare in PLAIN and schema in ("", "pg_catalog"):
            return Call(bare, uncacheable="the catalogue is not loaded")
        return _unknown(bare, "the catalogue is not loaded, so nothing is known of the function")
    volatility = catalogue.functions.get(bare)
    if schema.startswith("pg_temp"):
        return _unknown(bare, "nothing is known of the temporary function")
    if volatility is None:
        return None
    if bare in catalogue.builtin_functions:
        return _builtin(bare, volatility)
    if volatility is Volatility.IMMUTABLE:
        return Call(bare)
    if volatility is Volatility.STABLE:
        return Call(bare, uncacheable=f"{bare}() is stable and may read tables", reads_unknown=True)
    return _unknown(bare, "may write: it calls the volatile function")


def _unknown(bare: str, why: str) -> Call:
    return Call(
        bare,
        primary=f"{why} {bare}()",
        uncacheable=f"{bare}() may be volatile",
        opaque=True,
        reads_unknown=True,
    )


def _builtin(bare: str, volatility: Volatility) -> Call:
    if volatility is Volatility.IMMUTABLE:
        return Call(bare)
    reads_unknown = bare in RUNS_QUERIES
    needs_session = bare in READS_CONNECTION
    primary: str | None = None
    if needs_session:
        primary = f"{bare}() reads the state of its connection"
    elif bare in DIFFERS_BY_NODE or bare.startswith("pg_stat_get_"):
        primary = f"{bare}() tells of the server that runs it"
    elif volatility is Volatility.VOLATILE and bare not in HARMLESS_VOLATILE:
        primary = f"{bare}() may write or depends on the server that runs it"
    if volatility is Volatility.VOLATILE:
        uncacheable = f"{bare}() is volatile"
    elif bare in DETERMINED:
        uncacheable = None
    else:
        uncacheable = f"{bare}() depends on more than its arguments"
    return Call(
        bare,
        primary,
        uncacheable,
        opaque=reads_unknown and volatility is Volatility.VOLATILE,
        reads_unknown=reads_unknown,
        needs_session=needs_session,
        pins=PINS.get(bare),
    )
