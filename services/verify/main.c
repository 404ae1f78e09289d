/* cordon-verify — shows to somebody who trusts nobody that an exported audit log is whole: nothing altered, dropped,
 * reordered or cut off, and yesterday's log a beginning of today's. docs/verify.md explains it to an outsider.
 *
 * Trusts:   the verifier key and the checkpoints that its user got on another way. Nothing in the files it checks.
 * Holds:    nothing. No network, no Cordon, none of Cordon's other code: the C library and OpenSSL's libcrypto.
 * Fails:    exit status 0 verified, 1 not (the first wrong event is named), 2 usage, 3 a file cannot be read. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "export.h"
#include "package.h"
#include "record.h"

enum { VERIFIED = 0, REFUTED = 1, USAGE_EXIT = 2, UNREADABLE = 3, FILE_MAX_BYTES = 8 << 20 };

static const char USAGE[] =
    "usage: cordon-verify --key KEY [--checkpoint FILE]... [--witness KEY]... [EXPORT]...\n"
    "       cordon-verify inclusion [--key KEY] FILE     the answer of GET /api/v1/audit/events/{seq}/proof\n"
    "       cordon-verify consistency [--key KEY] FILE   the answer of GET /api/v1/audit/consistency\n"
    "       cordon-verify note --key KEY FILE            a checkpoint by itself\n"
    "       cordon-verify record --key KEY [--prompt FILE] FILE\n"
    "                                                    an answer's receipt (GET /api/v1/query/{id}/receipt) or a certificate\n"
    "       cordon-verify evidence --key KEY FILE        a package of evidence (GET /api/v1/evidence/{id}/content)\n"
    "\n"
    "Checks an exported audit log, from a file or standard input: every event is hashed into a Merkle tree (RFC 6962) in\n"
    "its order, and the root must be the one that a checkpoint signed with KEY names. Several exports are each checked by itself.\n"
    "\n"
    "  --key KEY         the log's verifier key, \"name+id+base64\", or @FILE; from the operator, on paper, not from the export\n"
    "  --no-key          check the tree only; the checkpoint may then be anybody's\n"
    "  --checkpoint FILE a checkpoint kept from before, or taken from the anchor bucket or a witness: the log must begin with it\n"
    "  --witness KEY     this witness must have cosigned the export's checkpoint\n"
    "  --prompt FILE     what the model was given, to be compared with the receipt\n"
    "  --help\n"
    "\n"
    "Exit status: 0 verified; 1 not verified, and the first wrong event is named; 2 usage; 3 a file cannot be read.\n";

struct options {
    struct verifier key;
    bool has_key, is_keyless;
    struct expected expected;
    const char *command, *file, *prompt;
    const char **more;                  /* exports behind the first; there are more_count */
    int more_count;
    char *kept[OUTSIDE_MAX];            /* texts of the checkpoints */
};

static int give_up(const char *what, const char *name) {
    (void)fprintf(stderr, "cordon-verify: %s: %s\n", name, what);
    return UNREADABLE;
}

static char *read_file(const char *path, size_t *ret_len) {
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *f = is_stdin ? stdin : fopen(path, "rbe");
    char *data = f ? malloc(FILE_MAX_BYTES + 1) : NULL;
    if (!data) {
        if (f && !is_stdin)
            (void)fclose(f);
        return NULL;
    }
    *ret_len = fread(data, 1, FILE_MAX_BYTES + 1, f);
    bool is_bad = ferror(f) || *ret_len > FILE_MAX_BYTES;
    if (!is_stdin)
        (void)fclose(f);
    if (is_bad) {
        free(data);
        return NULL;
    }
    return data;
}

static bool read_key(const char *text, struct verifier *out) {
    if (*text != '@')
        return verifier_read((struct text){ text, strlen(text) }, out);
    size_t len;
    char *data = read_file(text + 1, &len);
    bool is_good = data && verifier_read((struct text){ data, len }, out);
    free(data);
    return is_good;
}

static int add_checkpoint(struct options *o, const char *path) {
    size_t len, at = o->expected.outside_count;
    if (at == OUTSIDE_MAX)
        return give_up("too many checkpoints", path);
    o->kept[at] = read_file(path, &len);
    if (!o->kept[at])
        return give_up("cannot be read", path);
    if (!checkpoint_read((struct text){ o->kept[at], len }, &o->expected.outside[at]))
        return give_up("not a checkpoint", path);
    o->expected.outside_count++;
    return VERIFIED;
}

static bool is_command(const char *word) {
    static const char *const COMMANDS[] = { "inclusion", "consistency", "note", "record", "evidence" };
    for (size_t i = 0; i < sizeof COMMANDS / sizeof *COMMANDS; i++)
        if (strcmp(word, COMMANDS[i]) == 0)
            return true;
    return false;
}

static int parse(int argc, char **argv, struct options *o) {
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        int st = VERIFIED;
        if (strcmp(argv[i], "--no-key") == 0) {
            o->is_keyless = true;
        } else if (value && strcmp(argv[i], "--key") == 0) {
            o->has_key = true;
            st = read_key(argv[++i], &o->key) ? VERIFIED : give_up("not a verifier key", "--key");
        } else if (value && strcmp(argv[i], "--checkpoint") == 0) {
            st = add_checkpoint(o, argv[++i]);
        } else if (value && strcmp(argv[i], "--witness") == 0 && o->expected.witness_count < WITNESSES_MAX) {
            st = read_key(argv[++i], &o->expected.witnesses[o->expected.witness_count++]) ? VERIFIED : give_up("not a verifier key", "--witness");
        } else if (value && strcmp(argv[i], "--prompt") == 0) {
            o->prompt = argv[++i];
        } else if (argv[i][0] == '-' && argv[i][1]) {
            return USAGE_EXIT;
        } else if (!o->command && !o->file && is_command(argv[i])) {
            o->command = argv[i];
        } else if (!o->file) {
            o->file = argv[i];
        } else if (!o->command) {
            o->more[o->more_count++] = argv[i];
        } else {
            return USAGE_EXIT;
        }
        if (st != VERIFIED)
            return st;
    }
    return VERIFIED;
}

/* Checkpoints from outside count only when they are signed: anybody can write one. */
static int check_outside_signatures(const struct options *o) {
    for (size_t i = 0; o->has_key && i < o->expected.outside_count; i++)
        if (!checkpoint_is_signed(&o->expected.outside[i], &o->key)) {
            (void)printf("NOT VERIFIED: checkpoint %zu given is not signed by the key %s\n", i + 1, o->key.name);
            return REFUTED;
        }
    return VERIFIED;
}

static int verify_export(const struct options *o, const char *file) {
    struct report report;
    bool is_stdin = !file || strcmp(file, "-") == 0;
    FILE *in = is_stdin ? stdin : fopen(file, "rbe");
    if (!in)
        return give_up("cannot be read", file);
    bool was_read = export_check(in, &o->expected, &report);
    if (!is_stdin)
        (void)fclose(in);
    if (!was_read)
        return give_up("cannot be read to its end", is_stdin ? "standard input" : file);
    if (o->more_count > 0)
        (void)printf("%s: ", file);
    if (!report.is_good) {
        if (report.index >= 0)
            (void)printf("NOT VERIFIED at event %" PRId64 ": %s\n", report.index, report.text);
        else
            (void)printf("NOT VERIFIED: %s\n", report.text);
        return REFUTED;
    }
    (void)printf("verified: %" PRIu64 " events from event %" PRIu64 " on, of a tree of %" PRIu64 "\nlog: %s\nkey: %s\n",
                 report.events, report.first, report.size, report.origin, o->has_key ? o->key.name : "NONE - the tree was checked, not who vouches for it");
    if (o->expected.outside_count > 0)
        (void)printf("beginnings confirmed by checkpoints from elsewhere: %zu\n", o->expected.outside_count);
    if (o->expected.witness_count > 0)
        (void)printf("cosigned by witnesses: %zu\n", o->expected.witness_count);
    return VERIFIED;
}

/* All of them, whatever one says; the worst answer is the answer. */
static int verify_exports(struct options *o) {
    int worst = check_outside_signatures(o);
    if (worst != VERIFIED)
        return worst;
    o->expected.key = o->has_key ? &o->key : NULL;
    worst = verify_export(o, o->file);
    for (int i = 0; i < o->more_count; i++) {
        int st = verify_export(o, o->more[i]);
        worst = st > worst ? st : worst;
    }
    return worst;
}

/* ---- single proofs, as the interface answers them; a vector of somebody else's has "root" instead of a checkpoint ---- */

struct proof_file {
    struct object o;
    struct hash hashes[PROOF_MAX];
    size_t count;
    char note[NOTE_MAX_BYTES];
    struct checkpoint checkpoint;
    bool has_checkpoint;
};

static int refute(const char *why) {
    (void)printf("NOT VERIFIED: %s\n", why);
    return REFUTED;
}

/* The answer's checkpoint, signed by the key that was given, says size and root. */
static int check_checkpoint(const struct options *o, struct proof_file *p, uint64_t size, struct hash *root) {
    size_t len;
    p->has_checkpoint = json_text(&p->o, "checkpoint", p->note, sizeof p->note, &len) && len > 0 &&
                        checkpoint_read((struct text){ p->note, len }, &p->checkpoint);
    if (o->has_key && !p->has_checkpoint)
        return refute("there is no checkpoint that the key could have signed");
    if (p->has_checkpoint && o->has_key && !checkpoint_is_signed(&p->checkpoint, &o->key))
        return refute("the checkpoint is not signed by the key");
    if (!p->has_checkpoint)
        return VERIFIED;
    if (p->checkpoint.size != size)
        return refute("the checkpoint is of a tree of another size");
    *root = p->checkpoint.root;
    return VERIFIED;
}

static int verify_inclusion(const struct options *o, struct proof_file *p) {
    uint64_t seq, size;
    struct hash leaf, root;
    bool has_root = json_hash(&p->o, "root", &root);
    if (!json_u64(&p->o, "seq", &seq) || !json_u64(&p->o, "size", &size) || !json_hash(&p->o, "leaf_hash", &leaf))
        return give_up("not an inclusion proof", o->file);
    int st = check_checkpoint(o, p, size, &root);
    if (st != VERIFIED)
        return st;
    if (!has_root && !p->has_checkpoint)
        return give_up("neither root nor checkpoint", o->file);
    struct hasher *h = hasher_new();
    bool is_good = tree_includes(h, seq, size, &leaf, p->hashes, p->count, &root);
    hasher_free(h);
    if (!is_good)
        return refute("the leaf is not at this place of the tree");
    (void)printf("verified: the leaf is number %" PRIu64 " of a tree of %" PRIu64 "\n", seq, size);
    return VERIFIED;
}

static int verify_consistency(const struct options *o, struct proof_file *p) {
    uint64_t from, to;
    struct hash from_root, to_root;
    bool has_root = json_hash(&p->o, "to_root", &to_root);
    if (!json_u64(&p->o, "from", &from) || !json_u64(&p->o, "to", &to) || !json_hash(&p->o, "from_root", &from_root))
        return give_up("not a consistency proof", o->file);
    int st = check_checkpoint(o, p, to, &to_root);
    if (st != VERIFIED)
        return st;
    if (!has_root && !p->has_checkpoint)
        return give_up("neither root nor checkpoint", o->file);
    for (size_t i = 0; i < o->expected.outside_count; i++)
        if (o->expected.outside[i].size == from)
            from_root = o->expected.outside[i].root;
    struct hasher *h = hasher_new();
    bool is_good = tree_is_prefix(h, from, to, &from_root, &to_root, p->hashes, p->count);
    hasher_free(h);
    if (!is_good)
        return refute("the older tree is not a beginning of the newer one");
    (void)printf("verified: the first %" PRIu64 " leaves of the tree of %" PRIu64 " are the older tree\n", from, to);
    return VERIFIED;
}

static int verify_record(const struct options *o) {
    size_t len, prompt_len = 0;
    char *data = o->file ? read_file(o->file, &len) : NULL, *prompt = o->prompt ? read_file(o->prompt, &prompt_len) : NULL;
    if (!data || (o->prompt && !prompt)) {
        free(data);
        free(prompt);
        return give_up("cannot be read", !data && o->file ? o->file : o->prompt ? o->prompt : "no file");
    }
    struct record r;
    struct text given = { prompt, prompt_len };
    bool is_good = record_check((struct text){ data, len }, o->has_key ? &o->key : NULL, prompt ? &given : NULL, &r);
    free(data);
    free(prompt);
    free(r.bytes);
    if (!is_good)
        return refute(r.text);
    (void)printf("verified: %s of %s, event %" PRIu64 " of a tree of %" PRIu64 "\nkey: %s\n", r.kind, *r.resource_id ? r.resource_id : "the log",
                 r.seq, r.size, o->has_key ? o->key.name : "NONE - the tree was checked, not who vouches for it");
    if (r.opened_count + r.closed_count > 0)
        (void)printf("commitments opened: %u, still closed: %u\n", r.opened_count, r.closed_count);
    return VERIFIED;
}

static int verify_package(const struct options *o) {
    struct package_report r;
    bool is_stdin = !o->file || strcmp(o->file, "-") == 0;
    FILE *in = is_stdin ? stdin : fopen(o->file, "rbe");
    if (!in)
        return give_up("cannot be read", o->file);
    bool was_read = package_check(in, o->has_key ? &o->key : NULL, &r);
    if (!is_stdin)
        (void)fclose(in);
    if (!was_read)
        return give_up("cannot be read to its end", is_stdin ? "standard input" : o->file);
    if (!r.is_good) {
        (void)printf("NOT VERIFIED%s%s: %s\n", *r.member ? " at " : "", r.member, r.text);
        return REFUTED;
    }
    (void)printf("verified: package %s of %" PRIu64 " documents, %" PRIu64 " events, %" PRIu64 " receipts\nsealed by event %" PRIu64 " of a tree of %" PRIu64
                 "\nkey: %s\n", r.evidence_id, r.documents, r.events, r.receipts, r.seq, r.size,
                 o->has_key ? o->key.name : "NONE - the package was checked, not who vouches for it");
    return VERIFIED;
}

static int verify_proof(struct options *o) {
    size_t len;
    char *data = o->file ? read_file(o->file, &len) : NULL;
    struct proof_file *p = calloc(1, sizeof *p);
    if (!data || !p) {
        free(data);
        free(p);
        return give_up("cannot be read", o->file ? o->file : "no file");
    }
    bool is_note = strcmp(o->command, "note") == 0;
    while (!is_note && len > 0 && (data[len - 1] == '\n' || data[len - 1] == '\r'))
        len--;
    int st;
    if (is_note)
        st = !checkpoint_read((struct text){ data, len }, &p->checkpoint) ? give_up("not a checkpoint", o->file)
             : !checkpoint_is_signed(&p->checkpoint, &o->key) ? refute("the checkpoint is not signed by the key")
             : (printf("verified: %s has %" PRIu64 " events\n", p->checkpoint.origin, p->checkpoint.size), VERIFIED);
    else if (!json_object_read(data, len, false, &p->o) || !json_hashes(&p->o, "hashes", p->hashes, PROOF_MAX, &p->count))
        st = give_up("not a proof", o->file);
    else if (strcmp(o->command, "inclusion") == 0)
        st = verify_inclusion(o, p);
    else
        st = verify_consistency(o, p);
    free(p);
    free(data);
    return st;
}

static int run(int argc, char **argv, struct options *o) {
    if (argc == 2 && strcmp(argv[1], "--help") == 0)
        return fputs(USAGE, stdout) < 0 ? UNREADABLE : VERIFIED;
    int st = parse(argc, argv, o);
    bool is_record = o->command && strcmp(o->command, "record") == 0, is_package = o->command && strcmp(o->command, "evidence") == 0;
    bool may_be_keyless = !o->command || is_record || is_package;
    bool needs_key = may_be_keyless || strcmp(o->command, "note") == 0;
    if (st == VERIFIED && needs_key && !o->has_key && !(o->is_keyless && may_be_keyless))
        st = USAGE_EXIT;
    if (st == USAGE_EXIT)
        (void)fputs(USAGE, stderr);
    if (st != VERIFIED)
        return st;
    return is_package ? verify_package(o) : is_record ? verify_record(o) : o->command ? verify_proof(o) : verify_exports(o);
}

int main(int argc, char **argv) {
    struct options *o = calloc(1, sizeof *o);
    if (!o || !(o->more = calloc((size_t)argc + 1, sizeof *o->more))) {
        free(o);
        return UNREADABLE;
    }
    int st = run(argc, argv, o);
    for (size_t i = 0; i < OUTSIDE_MAX; i++)
        free(o->kept[i]);
    free((void *)o->more);
    free(o);
    return st;
}
