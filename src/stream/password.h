/* stream/password.h: salted hashes of passwords, as clients of this protocol's servers know them:
 * PBKDF2 with HMAC-SHA1, 1000 rounds, a salt of 16 bytes and a hash of 20, both in base64. */
#ifndef STREAM_PASSWORD_H
#define STREAM_PASSWORD_H

#include "base/slice.h"

#include <stdint.h>

#define PASSWORD_SALT_TEXT_SIZE 25u /* with the zero */
#define PASSWORD_HASH_TEXT_SIZE 29u

struct password_hash {
    char salt[PASSWORD_SALT_TEXT_SIZE];
    char hash[PASSWORD_HASH_TEXT_SIZE];
};

/* With a fresh salt. Takes about a millisecond. IO: no random bytes are to be had. */
int password_hash_make(kvs_slice password, struct password_hash *ret_hash);
/* In constant time but for the hash itself. What is no salt or hash matches nothing. */
bool password_matches(kvs_slice password, kvs_slice salt, kvs_slice hash);

/* A digest by which a login that was found right is known again; `secret` has 32 bytes. */
#define LOGIN_DIGEST_SIZE 32u
int login_digest(const uint8_t *secret, kvs_slice login, kvs_slice password, uint8_t *ret_digest);
int password_random(uint8_t *bytes, size_t size);

#endif
