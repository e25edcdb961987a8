/* stream/password.c: see the header; the arithmetic is OpenSSL's. */
#include "stream/password.h"

#include <kvs/error.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#define SALT_SIZE 16u
#define HASH_SIZE 20u
#define ROUNDS 1000

int password_random(uint8_t *bytes, size_t size)
{
    return RAND_bytes(bytes, (int)size) == 1 ? 0 : KVS_ERR_IO;
}

static bool hash_of(kvs_slice password, const uint8_t *salt, uint8_t *ret_hash)
{
    return PKCS5_PBKDF2_HMAC_SHA1((const char *)password.data, (int)password.size, salt, SALT_SIZE,
                                  ROUNDS, HASH_SIZE, ret_hash) == 1;
}

int password_hash_make(kvs_slice password, struct password_hash *ret_hash)
{
    uint8_t salt[SALT_SIZE];
    uint8_t hash[HASH_SIZE];
    int error = password_random(salt, sizeof salt);
    if (error != 0)
        return error;
    if (!hash_of(password, salt, hash))
        return KVS_ERR_NO_MEMORY;
    EVP_EncodeBlock((unsigned char *)ret_hash->salt, salt, sizeof salt);
    EVP_EncodeBlock((unsigned char *)ret_hash->hash, hash, sizeof hash);
    return 0;
}

/* Text of exactly this many bytes in base64; false: it is not. */
static bool decode(kvs_slice text, uint8_t *bytes, size_t size)
{
    uint8_t decoded[32];
    size_t text_size = (size + 2) / 3 * 4;
    if (text.size != text_size || text_size / 4 * 3 > sizeof decoded)
        return false;
    if (EVP_DecodeBlock(decoded, text.data, (int)text.size) < (int)size)
        return false;
    memcpy(bytes, decoded, size);
    return true;
}

bool password_matches(kvs_slice password, kvs_slice salt, kvs_slice hash)
{
    uint8_t salt_bytes[SALT_SIZE];
    uint8_t expected[HASH_SIZE];
    uint8_t found[HASH_SIZE];
    return decode(salt, salt_bytes, SALT_SIZE) && decode(hash, expected, HASH_SIZE) &&
           hash_of(password, salt_bytes, found) && CRYPTO_memcmp(expected, found, HASH_SIZE) == 0;
}

int login_digest(const uint8_t *secret, kvs_slice login, kvs_slice password, uint8_t *ret_digest)
{
    uint8_t text[1024];
    if (login.size + password.size + 1 > sizeof text)
        return KVS_ERR_TOO_LARGE;
    memcpy(text, login.data, login.size);
    text[login.size] = 0;
    if (password.size > 0)
        memcpy(text + login.size + 1, password.data, password.size);
    unsigned size = LOGIN_DIGEST_SIZE;
    bool made = HMAC(EVP_sha256(), secret, 32, text, login.size + 1 + password.size, ret_digest,
                     &size) != NULL;
    OPENSSL_cleanse(text, sizeof text);
    return made ? 0 : KVS_ERR_NO_MEMORY;
}
