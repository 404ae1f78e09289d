-- What opens keys is planned for its values again, as before 0026: without a ticket it then refuses with 42501 before it asks
-- for a setting that is not there.

SET LOCAL ROLE cordon_keys_definer;
ALTER FUNCTION keys.open(uuid) RESET plan_cache_mode;
ALTER FUNCTION keys.open_conversation(uuid) RESET plan_cache_mode;
RESET ROLE;
