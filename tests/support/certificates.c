/* Criterion brings libgit2, whose start has mbed TLS read all of the machine's certificates: two fifths of a small test's
 * process under the address sanitizer. This one is found first and reads none; nothing here speaks TLS by mbed TLS. */
int mbedtls_x509_crt_parse_file(void *chain, const char *path);

int mbedtls_x509_crt_parse_file(void *chain, const char *path) {
    (void)chain;
    (void)path;
    return 0;
}
