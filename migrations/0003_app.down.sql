DROP FUNCTION app.add_vector_partition(uuid), app.guard_partition(regclass, regclass);
DROP TABLE app.answers, app.chunk_vectors, app.chunks, app.documents, app.subjects, app.document_moves;
DROP FUNCTION app.check_document_move();
