-- 0013: nothing to undo.
DO $$ BEGIN END $$;
