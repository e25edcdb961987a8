/*
 * Certificates for tests of TLS, made anew in a directory of their own: a NAME.pem and NAME.key
 * each.
 *
 *   ca        an authority
 *   server    signed by it, for localhost and 127.0.0.1
 *   client    signed by it
 *   expired   signed by it, as server, and over since a day
 *   stranger  its own authority, for localhost and 127.0.0.1
 */
#ifndef TESTS_UNIT_NET_CERTIFICATES_H
#define TESTS_UNIT_NET_CERTIFICATES_H

#define CERTIFICATE_PATH_SIZE 96

void certificates_make(void);
void certificates_remove(void);

/* The path of a file there, "ca.pem", in one of eight texts that take turns. */
const char *certificate_path(const char *file);

#endif
