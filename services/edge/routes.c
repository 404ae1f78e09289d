#include "routes.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "auth.pb-c.h"
#include "core/str.h"
#include "edge.pb-c.h"
#include "exchange.h"
#include "ingest.pb-c.h"
#include "query.pb-c.h"

#define MESSAGE(package, name) &package##__##name##__descriptor

enum { JSON_MAX_BYTES = 64 << 10, EVIDENCE_MAX_BYTES = 512 << 10 /* names of 10,000 documents */ };
enum { QUICK_MS = 5000, READ_MS = 15000, ANSWER_MS = 60000, UPLOAD_MS = 900000, EXPORT_MS = 3600000 };

const struct http_route ROUTES[] = {
    /* verb    path                                        auth        scope                  rate         body         body max */
    /*         budget     handler          method                   request                                 */
    /*         reply                                     success      tag        summary */
    { "POST", "/api/v1/documents", AUTH_TOKEN, SCOPE_DOCUMENTS_WRITE, RATE_UPLOAD, BODY_UPLOAD, 0,
      UPLOAD_MS, serve_upload, "ingest.Upload", MESSAGE(ingest, upload_request), MESSAGE(ingest, upload_reply), 202,
      "documents", "Upload a document and have it made searchable" },
    { "GET", "/api/v1/documents", AUTH_TOKEN, SCOPE_DOCUMENTS_READ, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_unary, "query.ListDocuments", MESSAGE(query, list_documents_request), MESSAGE(query, list_documents_reply), 200,
      "documents", "List documents, newest first" },
    { "GET", "/api/v1/documents/{document_id}", AUTH_TOKEN, SCOPE_DOCUMENTS_READ, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_unary, "query.GetDocument", MESSAGE(query, get_document_request), MESSAGE(query, get_document_reply), 200,
      "documents", "Read a document's state" },
    { "PATCH", "/api/v1/documents/{document_id}", AUTH_TOKEN, SCOPE_DOCUMENTS_WRITE, RATE_WRITE, BODY_JSON, JSON_MAX_BYTES,
      READ_MS, serve_unary, "ingest.UpdateDocument", MESSAGE(ingest, update_document_request), MESSAGE(ingest, update_document_reply), 204,
      "documents", "Change a document's labels" },
    { "DELETE", "/api/v1/documents/{document_id}", AUTH_TOKEN, SCOPE_DOCUMENTS_WRITE, RATE_WRITE, BODY_NONE, 0,
      READ_MS, serve_unary, "ingest.DeleteDocument", MESSAGE(ingest, delete_document_request), MESSAGE(ingest, delete_document_reply), 204,
      "documents", "Delete a document" },
    { "GET", "/api/v1/documents/{document_id}/content", AUTH_TOKEN, SCOPE_DOCUMENTS_READ, RATE_DOWNLOAD, BODY_NONE, 0,
      UPLOAD_MS, serve_content, "query.GetContent", MESSAGE(query, get_content_request), MESSAGE(query, get_content_reply), 200,
      "documents", "Download a document's original" },
    { "POST", "/api/v1/subjects/lookup", AUTH_TOKEN, SCOPE_DOCUMENTS_READ, RATE_READ, BODY_JSON, JSON_MAX_BYTES,
      READ_MS, serve_unary, "query.FindSubject", MESSAGE(query, find_subject_request), MESSAGE(query, find_subject_reply), 200,
      "documents", "Find the id that stands for a patient" },
    { "GET", "/api/v1/jobs/{job_id}", AUTH_TOKEN, SCOPE_DOCUMENTS_READ, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_unary, "query.GetJob", MESSAGE(query, get_job_request), MESSAGE(query, get_job_reply), 200,
      "jobs", "Follow the work on a document" },
    { "GET", "/api/v1/jobs", AUTH_TOKEN, SCOPE_DOCUMENTS_READ, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_unary, "query.ListJobs", MESSAGE(query, list_jobs_request), MESSAGE(query, list_jobs_reply), 200,
      "jobs", "List background work, newest first; state=dead is what was given up" },
    { "POST", "/api/v1/jobs/{job_id}/cancel", AUTH_TOKEN, SCOPE_DOCUMENTS_WRITE, RATE_WRITE, BODY_NONE, 0,
      READ_MS, serve_unary, "ingest.CancelJob", MESSAGE(ingest, cancel_job_request), MESSAGE(ingest, cancel_job_reply), 202,
      "jobs", "Stop the work on a document" },
    { "POST", "/api/v1/jobs/{job_id}/retry", AUTH_TOKEN, SCOPE_DOCUMENTS_WRITE, RATE_WRITE, BODY_NONE, 0,
      READ_MS, serve_unary, "ingest.RetryJob", MESSAGE(ingest, retry_job_request), MESSAGE(ingest, retry_job_reply), 202,
      "jobs", "Begin anew with work that was given up or cancelled" },
    { "POST", "/api/v1/erasures", AUTH_TOKEN, SCOPE_ERASURES_MANAGE, RATE_WRITE, BODY_JSON, JSON_MAX_BYTES,
      READ_MS, serve_unary, "ingest.CreateErasure", MESSAGE(ingest, create_erasure_request), MESSAGE(ingest, create_erasure_reply), 202,
      "erasure", "Destroy documents, or everything about a patient, for good" },
    { "GET", "/api/v1/erasures", AUTH_TOKEN, SCOPE_ERASURES_MANAGE, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_unary, "query.ListErasures", MESSAGE(query, list_erasures_request), MESSAGE(query, list_erasures_reply), 200,
      "erasure", "List erasures, newest first" },
    { "GET", "/api/v1/erasures/{erasure_id}", AUTH_TOKEN, SCOPE_ERASURES_MANAGE, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_unary, "query.GetErasure", MESSAGE(query, get_erasure_request), MESSAGE(query, get_erasure_reply), 200,
      "erasure", "Follow an erasure" },
    { "GET", "/api/v1/erasures/{erasure_id}/certificate", AUTH_TOKEN, SCOPE_ERASURES_MANAGE, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_unary, "query.GetErasureCertificate", MESSAGE(query, get_erasure_certificate_request), MESSAGE(query, get_erasure_certificate_reply), 200,
      "erasure", "What was destroyed and what is left, with the proof that the log says so" },
    { "POST", "/api/v1/evidence", AUTH_TOKEN, SCOPE_EVIDENCE_MANAGE, RATE_WRITE, BODY_JSON, EVIDENCE_MAX_BYTES,
      READ_MS, serve_unary, "ingest.CreateEvidence", MESSAGE(ingest, create_evidence_request), MESSAGE(ingest, create_evidence_reply), 202,
      "evidence", "Order a package of documents, events and receipts that the log vouches for" },
    { "GET", "/api/v1/evidence", AUTH_TOKEN, SCOPE_EVIDENCE_MANAGE, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_unary, "query.ListEvidence", MESSAGE(query, list_evidence_request), MESSAGE(query, list_evidence_reply), 200,
      "evidence", "List packages of evidence, newest first" },
    { "GET", "/api/v1/evidence/{evidence_id}", AUTH_TOKEN, SCOPE_EVIDENCE_MANAGE, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_unary, "query.GetEvidence", MESSAGE(query, get_evidence_request), MESSAGE(query, get_evidence_reply), 200,
      "evidence", "Follow a package, and see who had it" },
    { "GET", "/api/v1/evidence/{evidence_id}/content", AUTH_TOKEN, SCOPE_EVIDENCE_MANAGE, RATE_DOWNLOAD, BODY_NONE, 0,
      UPLOAD_MS, serve_content, "query.GetEvidenceContent", MESSAGE(query, get_evidence_content_request), MESSAGE(query, get_evidence_content_reply), 200,
      "evidence", "Download a package of evidence" },
    { "DELETE", "/api/v1/evidence/{evidence_id}", AUTH_TOKEN, SCOPE_EVIDENCE_MANAGE, RATE_WRITE, BODY_NONE, 0,
      READ_MS, serve_unary, "ingest.DeleteEvidence", MESSAGE(ingest, delete_evidence_request), MESSAGE(ingest, delete_evidence_reply), 202,
      "evidence", "Erase a package of evidence; what it was made from stays" },
    { "POST", "/api/v1/holds", AUTH_TOKEN, SCOPE_HOLDS_MANAGE, RATE_WRITE, BODY_JSON, JSON_MAX_BYTES,
      READ_MS, serve_unary, "ingest.PlaceHold", MESSAGE(ingest, place_hold_request), MESSAGE(ingest, place_hold_reply), 201,
      "erasure", "Keep a document, or all of a patient's, from deletion and erasure; or the audit log where it is" },
    { "GET", "/api/v1/holds", AUTH_TOKEN, SCOPE_HOLDS_MANAGE, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_unary, "query.ListHolds", MESSAGE(query, list_holds_request), MESSAGE(query, list_holds_reply), 200,
      "erasure", "List legal holds, newest first" },
    { "DELETE", "/api/v1/holds/{hold_id}", AUTH_TOKEN, SCOPE_HOLDS_MANAGE, RATE_WRITE, BODY_NONE, 0,
      READ_MS, serve_unary, "ingest.ReleaseHold", MESSAGE(ingest, release_hold_request), MESSAGE(ingest, release_hold_reply), 204,
      "erasure", "Release a legal hold" },
    { "POST", "/api/v1/tenants/{tenant_id}/offboarding", AUTH_TOKEN, SCOPE_TENANTS_MANAGE, RATE_WRITE, BODY_NONE, 0,
      READ_MS, serve_unary, "auth.ApproveOffboarding", MESSAGE(auth, approve_offboarding_request), MESSAGE(auth, approve_offboarding_reply), 200,
      "tenants", "Agree that a tenant ends for good; two people must" },
    { "GET", "/api/v1/tenants/{tenant_id}/offboarding", AUTH_TOKEN, SCOPE_TENANTS_MANAGE, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_unary, "query.GetOffboarding", MESSAGE(query, get_offboarding_request), MESSAGE(query, get_offboarding_reply), 200,
      "tenants", "Follow the end of a tenant, to the certificate of what was destroyed" },
    { "POST", "/api/v1/keys/rotations", AUTH_TOKEN, SCOPE_KEYS_MANAGE, RATE_WRITE, BODY_NONE, 0,
      READ_MS, serve_unary, "auth.RotateTenantKey", MESSAGE(auth, rotate_tenant_key_request), MESSAGE(auth, rotate_tenant_key_reply), 202,
      "keys", "Give the tenant a new data key, and wrap under it what is under older ones" },
    { "GET", "/api/v1/vectors", AUTH_TOKEN, SCOPE_VECTORS_MANAGE, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_unary, "query.GetVectors", MESSAGE(query, get_vectors_request), MESSAGE(query, get_vectors_reply), 200,
      "vectors", "Tell which model's vectors the tenant is searched by" },
    { "POST", "/api/v1/vectors/reembeddings", AUTH_TOKEN, SCOPE_VECTORS_MANAGE, RATE_WRITE, BODY_NONE, 0,
      READ_MS, serve_unary, "ingest.CreateReembedding", MESSAGE(ingest, create_reembedding_request), MESSAGE(ingest, create_reembedding_reply), 202,
      "vectors", "Have the present embedding model make all vectors anew; searched by the old ones until they are there" },
    { "POST", "/api/v1/search", AUTH_TOKEN, SCOPE_QUERY, RATE_MODEL, BODY_JSON, JSON_MAX_BYTES,
      ANSWER_MS, serve_unary, "query.Search", MESSAGE(query, search_request), MESSAGE(query, search_reply), 200,
      "questions", "Find the passages nearest to a question" },
    { "POST", "/api/v1/query", AUTH_TOKEN, SCOPE_QUERY, RATE_MODEL, BODY_JSON, JSON_MAX_BYTES,
      ANSWER_MS, serve_answer, "query.Query", MESSAGE(query, query_request), MESSAGE(query, query_reply), 200,
      "questions", "Ask a question; the answer cites its sources" },
    { "GET", "/api/v1/query/{answer_id}", AUTH_TOKEN, SCOPE_QUERY, RATE_MODEL, BODY_NONE, 0,
      ANSWER_MS, serve_answer, "query.GetAnswer", MESSAGE(query, get_answer_request), MESSAGE(query, get_answer_reply), 200,
      "questions", "A stored answer of one's own; or the rest of a stream that was cut" },
    { "GET", "/api/v1/conversations", AUTH_TOKEN, SCOPE_QUERY, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_unary, "query.ListConversations", MESSAGE(query, list_conversations_request), MESSAGE(query, list_conversations_reply), 200,
      "questions", "List one's own conversations, newest first" },
    { "GET", "/api/v1/conversations/{conversation_id}", AUTH_TOKEN, SCOPE_QUERY, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_unary, "query.GetConversation", MESSAGE(query, get_conversation_request), MESSAGE(query, get_conversation_reply), 200,
      "questions", "Read a conversation, newest answers first" },
    { "DELETE", "/api/v1/conversations/{conversation_id}", AUTH_TOKEN, SCOPE_QUERY, RATE_WRITE, BODY_NONE, 0,
      READ_MS, serve_unary, "query.DeleteConversation", MESSAGE(query, delete_conversation_request), MESSAGE(query, delete_conversation_reply), 204,
      "questions", "Delete a conversation with its answers" },
    { "GET", "/api/v1/query/{answer_id}/receipt", AUTH_TOKEN, SCOPE_QUERY, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_unary, "query.GetReceipt", MESSAGE(query, get_receipt_request), MESSAGE(query, get_receipt_reply), 200,
      "questions", "What an answer was made of, and the proof of it" },
    { "GET", "/api/v1/audit/events", AUTH_TOKEN, SCOPE_AUDIT_READ, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_unary, "query.ListAuditEvents", MESSAGE(query, list_audit_events_request), MESSAGE(query, list_audit_events_reply), 200,
      "audit", "Read the audit log, newest first" },
    { "GET", "/api/v1/audit/disclosures", AUTH_TOKEN, SCOPE_AUDIT_READ, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_unary, "query.ListDisclosures", MESSAGE(query, list_disclosures_request), MESSAGE(query, list_disclosures_reply), 200,
      "audit", "Who saw a document or a patient's documents, people and models, newest first" },
    { "GET", "/api/v1/audit/disclosures.csv", AUTH_TOKEN, SCOPE_AUDIT_READ, RATE_READ, BODY_NONE, 0,
      EXPORT_MS, serve_export, "query.ExportDisclosures", MESSAGE(query, list_disclosures_request), MESSAGE(query, export_disclosures_reply), 200,
      "audit", "The same to its end, as CSV" },
    { "GET", "/api/v1/audit/checkpoint", AUTH_TOKEN, SCOPE_AUDIT_READ, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_unary, "query.GetAuditCheckpoint", MESSAGE(query, get_audit_checkpoint_request), MESSAGE(query, get_audit_checkpoint_reply), 200,
      "audit", "The newest signed head of the audit log" },
    { "GET", "/api/v1/audit/receipts/{answer_id}", AUTH_TOKEN, SCOPE_AUDIT_READ, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_unary, "query.GetAuditReceipt", MESSAGE(query, get_audit_receipt_request), MESSAGE(query, get_receipt_reply), 200,
      "audit", "The receipt of anybody's answer, closed, and the proof of it" },
    { "POST", "/api/v1/audit/cosignatures", AUTH_TOKEN, SCOPE_AUDIT_WITNESS, RATE_READ, BODY_JSON, JSON_MAX_BYTES,
      READ_MS, serve_unary, "query.AddCosignatures", MESSAGE(query, add_cosignatures_request), MESSAGE(query, add_cosignatures_reply), 200,
      "audit", "Add a witness's cosignature to a signed head" },
    { "GET", "/api/v1/audit/events/{seq}/proof", AUTH_TOKEN, SCOPE_AUDIT_READ, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_unary, "query.GetAuditProof", MESSAGE(query, get_audit_proof_request), MESSAGE(query, get_audit_proof_reply), 200,
      "audit", "Proof that an event is in the signed log" },
    { "GET", "/api/v1/audit/consistency", AUTH_TOKEN, SCOPE_AUDIT_READ, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_unary, "query.GetAuditConsistency", MESSAGE(query, get_audit_consistency_request), MESSAGE(query, get_audit_consistency_reply), 200,
      "audit", "Proof that an older log is a beginning of a newer one" },
    { "GET", "/api/v1/audit/tile/{level}/{tile*}", AUTH_TOKEN, SCOPE_AUDIT_READ, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_tile, "query.GetAuditTile", MESSAGE(query, get_audit_tile_request), MESSAGE(query, get_audit_tile_reply), 200,
      "audit", "256 hashes of the log's tree (c2sp.org/tlog-tiles)" },
    { "GET", "/api/v1/audit/export", AUTH_TOKEN, SCOPE_AUDIT_READ, RATE_READ, BODY_NONE, 0,
      EXPORT_MS, serve_export, "query.ExportAudit", MESSAGE(query, export_audit_request), MESSAGE(query, export_audit_reply), 200,
      "audit", "Export events with what proves that they are whole" },
    { "POST", "/api/v1/tenants", AUTH_TOKEN, SCOPE_TENANTS_MANAGE, RATE_ADMIN, BODY_JSON, JSON_MAX_BYTES,
      ANSWER_MS, serve_unary, "auth.CreateTenant", MESSAGE(auth, create_tenant_request), MESSAGE(auth, create_tenant_reply), 201,
      "tenants", "Create a tenant with keys of its own" },
    { "GET", "/api/v1/tenants", AUTH_TOKEN, SCOPE_TENANTS_MANAGE, RATE_ADMIN, BODY_NONE, 0,
      READ_MS, serve_unary, "auth.ListTenants", MESSAGE(auth, list_tenants_request), MESSAGE(auth, list_tenants_reply), 200,
      "tenants", "List tenants" },
    { "PATCH", "/api/v1/tenants/{tenant_id}", AUTH_TOKEN, SCOPE_TENANTS_MANAGE, RATE_ADMIN, BODY_JSON, JSON_MAX_BYTES,
      READ_MS, serve_unary, "auth.UpdateTenant", MESSAGE(auth, update_tenant_request), MESSAGE(auth, update_tenant_reply), 200,
      "tenants", "Rename, suspend or reopen a tenant" },
    { "GET", "/api/v1/tenants/{tenant_id}/usage", AUTH_TOKEN, SCOPE_TENANTS_MANAGE, RATE_ADMIN, BODY_NONE, 0,
      READ_MS, serve_unary, "auth.GetTenantUsage", MESSAGE(auth, get_tenant_usage_request), MESSAGE(auth, get_tenant_usage_reply), 200,
      "tenants", "How much a tenant has" },
    { "PUT", "/api/v1/access", AUTH_TOKEN, SCOPE_USERS_MANAGE, RATE_ADMIN, BODY_JSON, JSON_MAX_BYTES,
      READ_MS, serve_unary, "auth.UpdateAccess", MESSAGE(auth, update_access_request), MESSAGE(auth, update_access_reply), 200,
      "access", "Decide how people come into the tenant" },
    { "GET", "/api/v1/users", AUTH_TOKEN, SCOPE_USERS_MANAGE, RATE_ADMIN, BODY_NONE, 0,
      READ_MS, serve_unary, "auth.ListUsers", MESSAGE(auth, list_users_request), MESSAGE(auth, list_users_reply), 200,
      "users", "List the tenant's users" },
    { "POST", "/api/v1/users", AUTH_TOKEN, SCOPE_USERS_MANAGE, RATE_ADMIN, BODY_JSON, JSON_MAX_BYTES,
      READ_MS, serve_unary, "auth.InviteUser", MESSAGE(auth, invite_user_request), MESSAGE(auth, invite_user_reply), 201,
      "users", "Invite somebody by address" },
    { "PATCH", "/api/v1/users/{user_id}", AUTH_TOKEN, SCOPE_USERS_MANAGE, RATE_ADMIN, BODY_JSON, JSON_MAX_BYTES,
      READ_MS, serve_unary, "auth.UpdateUser", MESSAGE(auth, update_user_request), MESSAGE(auth, update_user_reply), 204,
      "users", "Disable, delete or reopen a user" },
    { "PUT", "/api/v1/users/{user_id}/roles/{role}", AUTH_TOKEN, SCOPE_USERS_MANAGE, RATE_ADMIN, BODY_NONE, 0,
      READ_MS, serve_unary, "auth.AssignRole", MESSAGE(auth, assign_role_request), MESSAGE(auth, assign_role_reply), 204,
      "users", "Give a user a role" },
    { "DELETE", "/api/v1/users/{user_id}/roles/{role}", AUTH_TOKEN, SCOPE_USERS_MANAGE, RATE_ADMIN, BODY_NONE, 0,
      READ_MS, serve_unary, "auth.UnassignRole", MESSAGE(auth, unassign_role_request), MESSAGE(auth, unassign_role_reply), 204,
      "users", "Take a role from a user" },
    { "GET", "/api/v1/roles", AUTH_TOKEN, SCOPE_USERS_MANAGE, RATE_ADMIN, BODY_NONE, 0,
      READ_MS, serve_unary, "auth.ListRoles", MESSAGE(auth, list_roles_request), MESSAGE(auth, list_roles_reply), 200,
      "access", "List roles and their scopes" },
    { "PUT", "/api/v1/roles/{role}", AUTH_TOKEN, SCOPE_USERS_MANAGE, RATE_ADMIN, BODY_JSON, JSON_MAX_BYTES,
      READ_MS, serve_unary, "auth.PutRole", MESSAGE(auth, put_role_request), MESSAGE(auth, put_role_reply), 204,
      "access", "Make a role of the tenant's own, or change it" },
    { "DELETE", "/api/v1/roles/{role}", AUTH_TOKEN, SCOPE_USERS_MANAGE, RATE_ADMIN, BODY_NONE, 0,
      READ_MS, serve_unary, "auth.DeleteRole", MESSAGE(auth, delete_role_request), MESSAGE(auth, delete_role_reply), 204,
      "access", "Remove a role of the tenant's own" },
    { "GET", "/api/v1/labels", AUTH_TOKEN, SCOPE_USERS_MANAGE, RATE_ADMIN, BODY_NONE, 0,
      READ_MS, serve_unary, "auth.ListLabels", MESSAGE(auth, list_labels_request), MESSAGE(auth, list_labels_reply), 200,
      "access", "List labels" },
    { "POST", "/api/v1/labels", AUTH_TOKEN, SCOPE_USERS_MANAGE, RATE_ADMIN, BODY_JSON, JSON_MAX_BYTES,
      READ_MS, serve_unary, "auth.CreateLabel", MESSAGE(auth, create_label_request), MESSAGE(auth, create_label_reply), 204,
      "access", "Make a label of the tenant's own" },
    { "GET", "/api/v1/label-grants", AUTH_TOKEN, SCOPE_USERS_MANAGE, RATE_ADMIN, BODY_NONE, 0,
      READ_MS, serve_unary, "auth.ListLabelGrants", MESSAGE(auth, list_label_grants_request), MESSAGE(auth, list_label_grants_reply), 200,
      "access", "List who may see which label" },
    { "POST", "/api/v1/label-grants", AUTH_TOKEN, SCOPE_USERS_MANAGE, RATE_ADMIN, BODY_JSON, JSON_MAX_BYTES,
      READ_MS, serve_unary, "auth.CreateLabelGrant", MESSAGE(auth, create_label_grant_request), MESSAGE(auth, create_label_grant_reply), 201,
      "access", "Let a role or a user see a label" },
    { "DELETE", "/api/v1/label-grants/{grant_id}", AUTH_TOKEN, SCOPE_USERS_MANAGE, RATE_ADMIN, BODY_NONE, 0,
      READ_MS, serve_unary, "auth.RevokeLabelGrant", MESSAGE(auth, revoke_label_grant_request), MESSAGE(auth, revoke_label_grant_reply), 204,
      "access", "Revoke a label's grant" },
    { "GET", "/api/v1/api-keys", AUTH_TOKEN, SCOPE_USERS_MANAGE, RATE_ADMIN, BODY_NONE, 0,
      READ_MS, serve_unary, "auth.ListApiKeys", MESSAGE(auth, list_api_keys_request), MESSAGE(auth, list_api_keys_reply), 200,
      "access", "List API keys" },
    { "POST", "/api/v1/api-keys", AUTH_TOKEN, SCOPE_USERS_MANAGE, RATE_ADMIN, BODY_JSON, JSON_MAX_BYTES,
      READ_MS, serve_unary, "auth.CreateApiKey", MESSAGE(auth, create_api_key_request), MESSAGE(auth, create_api_key_reply), 201,
      "access", "Make an API key; it is shown this once" },
    { "DELETE", "/api/v1/api-keys/{key_id}", AUTH_TOKEN, SCOPE_USERS_MANAGE, RATE_ADMIN, BODY_NONE, 0,
      READ_MS, serve_unary, "auth.RevokeApiKey", MESSAGE(auth, revoke_api_key_request), MESSAGE(auth, revoke_api_key_reply), 204,
      "access", "Revoke an API key" },
    { "POST", "/api/v1/break-glass", AUTH_TOKEN, SCOPE_BREAKGLASS_REQUEST, RATE_ADMIN, BODY_JSON, JSON_MAX_BYTES,
      READ_MS, serve_unary, "auth.BreakGlass", MESSAGE(auth, break_glass_request), MESSAGE(auth, break_glass_reply), 201,
      "access", "Open what labels hide, for a while and on record" },
    { "GET", "/api/v1/break-glass", AUTH_TOKEN, SCOPE_BREAKGLASS_REVIEW, RATE_ADMIN, BODY_NONE, 0,
      READ_MS, serve_unary, "auth.ListBreakGlass", MESSAGE(auth, list_break_glass_request), MESSAGE(auth, list_break_glass_reply), 200,
      "access", "List break-glass grants" },
    { "DELETE", "/api/v1/break-glass/{grant_id}", AUTH_TOKEN, SCOPE_BREAKGLASS_REQUEST, RATE_ADMIN, BODY_NONE, 0,
      READ_MS, serve_unary, "auth.EndBreakGlass", MESSAGE(auth, end_break_glass_request), MESSAGE(auth, end_break_glass_reply), 204,
      "access", "Give broken glass back" },
    { "PUT", "/api/v1/break-glass/{grant_id}/review", AUTH_TOKEN, SCOPE_BREAKGLASS_REVIEW, RATE_ADMIN, BODY_JSON, JSON_MAX_BYTES,
      READ_MS, serve_unary, "auth.ReviewBreakGlass", MESSAGE(auth, review_break_glass_request), MESSAGE(auth, review_break_glass_reply), 204,
      "access", "Review a break-glass grant" },
    { "GET", "/api/v1/auth/login", AUTH_LOGIN, SCOPE_NONE, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_login, NULL, MESSAGE(edge, login_form), NULL, 303,
      "sessions", "Log in from a browser: the way to the provider" },
    { "GET", "/api/v1/auth/callback", AUTH_LOGIN, SCOPE_NONE, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_callback, NULL, MESSAGE(edge, callback_form), NULL, 303,
      "sessions", "The way back from the provider" },
    { "GET", "/api/v1/auth/me", AUTH_SESSION, SCOPE_NONE, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_unary, "auth.GetMe", MESSAGE(auth, get_me_request), MESSAGE(auth, get_me_reply), 200,
      "sessions", "Who am I, and what may I do?" },
    { "GET", "/api/v1/auth/validate", AUTH_PASSIVE, SCOPE_NONE, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_unary, "auth.ValidateSession", MESSAGE(auth, validate_session_request), MESSAGE(auth, validate_session_reply), 200,
      "sessions", "Does my session still stand, and until when? Asking does not keep it alive" },
    { "POST", "/api/v1/auth/logout", AUTH_SESSION, SCOPE_NONE, RATE_WRITE, BODY_NONE, 0,
      READ_MS, serve_logout, "auth.Logout", MESSAGE(auth, logout_request), MESSAGE(auth, logout_reply), 200,
      "sessions", "End my session; go to logout_url to end the provider's" },
    { "GET", "/api/v1/auth/sessions", AUTH_SESSION, SCOPE_NONE, RATE_READ, BODY_NONE, 0,
      READ_MS, serve_unary, "auth.ListSessions", MESSAGE(auth, list_sessions_request), MESSAGE(auth, list_sessions_reply), 200,
      "sessions", "List my sessions" },
    { "DELETE", "/api/v1/auth/sessions/{session_id}", AUTH_SESSION, SCOPE_NONE, RATE_WRITE, BODY_NONE, 0,
      READ_MS, serve_unary, "auth.EndSession", MESSAGE(auth, end_session_request), MESSAGE(auth, end_session_reply), 204,
      "sessions", "End one of my sessions" },
    { "GET", "/api/v1/users/{user_id}/sessions", AUTH_TOKEN, SCOPE_USERS_MANAGE, RATE_ADMIN, BODY_NONE, 0,
      READ_MS, serve_unary, "auth.ListUserSessions", MESSAGE(auth, list_user_sessions_request), MESSAGE(auth, list_user_sessions_reply), 200,
      "sessions", "List a user's sessions" },
    { "DELETE", "/api/v1/users/{user_id}/sessions", AUTH_TOKEN, SCOPE_USERS_MANAGE, RATE_ADMIN, BODY_NONE, 0,
      READ_MS, serve_unary, "auth.EndUserSessions", MESSAGE(auth, end_user_sessions_request), MESSAGE(auth, end_user_sessions_reply), 200,
      "sessions", "Log a user out everywhere" },
    { "GET", "/api/v1/health/live", AUTH_NONE, SCOPE_NONE, RATE_NONE, BODY_NONE, 0,
      QUICK_MS, serve_live, NULL, NULL, MESSAGE(edge, live_reply), 200,
      "health", "Is the process alive?" },
    { "GET", "/api/v1/health/ready", AUTH_NONE, SCOPE_NONE, RATE_NONE, BODY_NONE, 0,
      QUICK_MS, serve_ready, NULL, NULL, MESSAGE(edge, health_reply), 200,
      "health", "Can it serve? 503 while a service behind it is missing" },
    { "GET", "/api/v1/health", AUTH_NONE, SCOPE_NONE, RATE_NONE, BODY_NONE, 0,
      QUICK_MS, serve_health, NULL, NULL, MESSAGE(edge, health_reply), 200,
      "health", "What is up and what is not" },
    { "GET", "/openapi.json", AUTH_NONE, SCOPE_NONE, RATE_NONE, BODY_NONE, 0,
      QUICK_MS, serve_openapi, NULL, NULL, NULL, 200,
      "about", "This interface as an OpenAPI document" },
    { "GET", "/docs", AUTH_NONE, SCOPE_NONE, RATE_NONE, BODY_NONE, 0,
      QUICK_MS, serve_docs, NULL, NULL, NULL, 200,
      "about", "This interface as a page to read" },
    { 0 }
};

const struct fill_rule FIELDS[] = {
#define FIELD(message, field, required, min, max, pattern, help) { message, field, required, min, max, pattern, help },
#include "fields.def"
#undef FIELD
    { 0 }
};

static bool is_segment_char(char c) {
    return isalnum((unsigned char)c) || (c && strchr("._~-", c));
}

bool route_fits(const char *template, const char *path, struct route_param params[], unsigned *ret_count) {
    unsigned count = 0;
    while (*template) {
        if (*template != '{') {
            if (*template++ != *path++)
                return false;
            continue;
        }
        const char *end = strchr(template, '}');
        bool is_rest = end[-1] == '*';
        size_t len = 0;
        while (is_segment_char(path[len]) || (is_rest && path[len] == '/'))
            len++;
        if (!len || count == ROUTE_PARAMS_MAX)
            return false;
        params[count++] = (struct route_param){ template + 1, path, (size_t)(end - template) - 1 - is_rest, len };
        template = end + 1;
        path += len;
    }
    *ret_count = count;
    return !*path;
}

bool route_has_head(const struct http_route *route) {
    return route->handle == serve_content;
}

struct route_match route_match(const char *verb, const char *path) {
    struct route_match match = { 0 };
    for (const struct http_route *r = ROUTES; r->verb; r++) {
        struct route_param params[ROUTE_PARAMS_MAX];
        unsigned count = 0;
        if (!route_fits(r->path, path, params, &count))
            continue;
        match.other = r;
        if (!str_equal(r->verb, verb) && !(route_has_head(r) && str_equal(verb, "HEAD")))
            continue;
        match.route = r;
        match.param_count = count;
        memcpy(match.params, params, sizeof params);
        break;
    }
    return match;
}

unsigned route_index(const struct http_route *route) {
    return (unsigned)(route - ROUTES);
}

void route_verbs(const char *path, char *out, size_t size) {
    size_t used = 0;
    out[0] = '\0';
    for (const struct http_route *r = ROUTES; r->verb; r++)
        if (str_equal(r->path, path) && used < size)
            used += (size_t)snprintf(out + used, size - used, "%s%s%s", used ? ", " : "", r->verb, route_has_head(r) ? ", HEAD" : "");
}
