# Every test, in lanes that can be run alone. Counts come from each runner's own report, and one line closes.

TEST_LANES=(unit lint cloud e2e)
