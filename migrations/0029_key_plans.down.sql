ALTER FUNCTION keys.open(uuid) SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION keys.open_conversation(uuid) SET plan_cache_mode = force_generic_plan;
