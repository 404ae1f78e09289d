-- 0013: the front door counts in the edge's memory (ADR 0017) and needs nothing here. The number stays taken, since
-- cordon-migrate rightly takes a gap for a lost file.
DO $$ BEGIN END $$;
