DROP FUNCTION audit.add_model_spend(uuid[], bigint[]);
DROP TABLE audit.model_spend;
