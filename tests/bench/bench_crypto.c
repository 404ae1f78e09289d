// links: crypto text bench
/* What sealing, opening and splitting cost, beside OpenSSL's AES-256-GCM with nothing around it and one
 * plain pass over the text. */
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/buffer.h"
#include "crypto/frames.h"
#include "support/measure.h"
#include "text/splitter.h"

enum { FILE_BYTES = 16 << 20, PART_BYTES = 256 << 10, CHUNK_BYTES = 1024, CHUNKS = 256, TEXT_BYTES = 4 << 20 };

static struct {
    struct secret *key;
    struct aad aad;
    uint8_t *plain;
    struct buffer sealed;
    char *text;
    size_t text_len;
    volatile size_t words;
} bench;

struct worker { struct buffer out; EVP_CIPHER_CTX *evp; uint8_t *bytes; };

static void *worker_begin(void *ctx, unsigned caller) {
    (void)ctx;
    (void)caller;
    struct worker *w = xalloc(sizeof *w);
    w->evp = EVP_CIPHER_CTX_new();
    w->bytes = xalloc(FILE_BYTES + AEAD_TAG_BYTES);
    return w;
}

static void worker_end(void *state) {
    struct worker *w = state;
    buffer_end(&w->out);
    EVP_CIPHER_CTX_free(w->evp);
    free(w->bytes);
    free(w);
}

static void seal_into(struct buffer *out) {
    struct why why = { 0 };
    CLEANUP(frames_sealer_destroy) struct frames_sealer *sealer = NULL;
    bench_check(frames_seal_begin(bench.key, &bench.aad, FRAME_LOG2, &sealer, &why), &why, "frames_seal_begin");
    for (size_t at = 0; at < FILE_BYTES; at += PART_BYTES)
        bench_check(frames_seal_add(sealer, bench.plain + at, PART_BYTES, out, &why), &why, "frames_seal_add");
    bench_check(frames_seal_end(sealer, out, &why), &why, "frames_seal_end");
}

static void seal_file(void *state, struct stopwatch *watch) {
    struct worker *w = state;
    (void)watch;
    buffer_clear(&w->out);
    seal_into(&w->out);
}

static void open_file(void *state, struct stopwatch *watch) {
    struct worker *w = state;
    struct why why = { 0 };
    CLEANUP(frames_opener_destroy) struct frames_opener *opener = NULL;
    (void)watch;
    buffer_clear(&w->out);
    bench_check(frames_open_begin(bench.key, &bench.aad, &opener, &why), &why, "frames_open_begin");
    for (size_t at = 0; at < bench.sealed.len; at += PART_BYTES)
        bench_check(frames_open_add(opener, bench.sealed.data + at,
                    bench.sealed.len - at < PART_BYTES ? bench.sealed.len - at : PART_BYTES, &w->out, &why), &why, "frames_open_add");
    bench_check(frames_open_end(opener, &w->out, &why), &why, "frames_open_end");
}

/* One message, one tag, no header, nothing copied. */
static void evp_run(struct worker *w, const uint8_t *plain, size_t len, size_t step) {
    uint8_t nonce[AEAD_NONCE_BYTES] = { 0 };
    int n;
    EVP_EncryptInit_ex(w->evp, EVP_aes_256_gcm(), NULL, bench.key->bytes, nonce);
    for (size_t at = 0; at < len; at += step)
        EVP_EncryptUpdate(w->evp, w->bytes + at, &n, plain + at, (int)(len - at < step ? len - at : step));
    EVP_EncryptFinal_ex(w->evp, w->bytes + len, &n);
    EVP_CIPHER_CTX_ctrl(w->evp, EVP_CTRL_GCM_GET_TAG, AEAD_TAG_BYTES, w->bytes + len);
}

static void evp_file(void *state, struct stopwatch *watch) {
    (void)watch;
    evp_run(state, bench.plain, FILE_BYTES, 64 << 10);
}

static void seal_chunks(void *state, struct stopwatch *watch) {
    (void)state;
    (void)watch;
    struct why why = { 0 };
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct blob sealed;
    for (size_t i = 0; i < CHUNKS; i++)
        bench_check(aead_seal(bench.key, &bench.aad, bench.plain + i * CHUNK_BYTES, CHUNK_BYTES, mem, &sealed, &why), &why, "aead_seal");
}

static void evp_chunks(void *state, struct stopwatch *watch) {
    (void)watch;
    for (size_t i = 0; i < CHUNKS; i++)
        evp_run(state, bench.plain + i * CHUNK_BYTES, CHUNK_BYTES, CHUNK_BYTES);
}

static void split(void *state, struct stopwatch *watch) {
    (void)state;
    (void)watch;
    struct why why = { 0 };
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    struct text_chunk *chunks;
    size_t count;
    bench_check(split_text(mem, bench.text, bench.text_len, NULL, &chunks, &count, &why), &why, "split_text");
}

static void count_words(void *state, struct stopwatch *watch) {
    (void)state;
    (void)watch;
    size_t words = 0;
    bool was_space = true;
    for (size_t i = 0; i < bench.text_len; i++) {
        bool is_space = bench.text[i] == ' ' || bench.text[i] == '\n';
        words += was_space && !is_space;
        was_space = is_space;
    }
    bench.words = words;
}

/* Sentences as clinicians write them, in paragraphs and pages. */
static void make_text(void) {
    static const char *const SENTENCES[] = {
        "The patient was admitted with shortness of breath and swelling of both ankles. ",
        "Furosemide 40 mg twice daily was started, potassium 4.1 mmol/l on day 3. ",
        "No fever, no cough; the chest film shows small effusions on both sides. ",
        "She lives alone, walks with a frame and is visited by the district nurse twice a week. ",
        "Follow-up with Dr. Müller in two weeks (echocardiography, weight chart, renal function). " };
    bench.text = xalloc(TEXT_BYTES);
    for (unsigned i = 0; bench.text_len + 128 < TEXT_BYTES; i++) {
        const char *sentence = SENTENCES[(i * 7 + i / 3) % 5];
        memcpy(bench.text + bench.text_len, sentence, strlen(sentence));
        bench.text_len += strlen(sentence);
        if (i % 6 == 5)
            bench.text[bench.text_len++] = '\n';
        if (i % 6 == 5)
            bench.text[bench.text_len++] = i % 60 == 59 ? '\f' : '\n';
    }
}

#define ROW(label, bytes, reference, work) { label, 1, (double)(bytes) / 1e6, "MB", reference, NULL, worker_begin, work, worker_end }

int main(void) {
    bench.key = aead_key_new();
    aad_begin(&bench.aad, "cordon bench v1");
    bench.plain = xalloc(FILE_BYTES);
    RAND_bytes(bench.plain, FILE_BYTES);
    buffer_init(&bench.sealed, 0);
    seal_into(&bench.sealed);
    make_text();
    const struct bench_row rows[] = {
        ROW("frames, seal 16 MiB", FILE_BYTES, 2, seal_file),
        ROW("frames, open 16 MiB", FILE_BYTES, 2, open_file),
        ROW("EVP AES-256-GCM, 16 MiB as one message", FILE_BYTES, NO_ROW, evp_file),
        ROW("aead_seal, chunks of 1 KiB", CHUNKS * CHUNK_BYTES, 4, seal_chunks),
        ROW("EVP AES-256-GCM, messages of 1 KiB", CHUNKS * CHUNK_BYTES, NO_ROW, evp_chunks),
        ROW("split_text, 4 MiB", bench.text_len, 6, split),
        ROW("one loop that counts words", bench.text_len, NO_ROW, count_words),
    };
    measure("crypto", "Frames of 64 KiB under one document key. An operation on chunks is 256 of them. One thread.", rows,
            sizeof rows / sizeof *rows);
    return 0;
}
