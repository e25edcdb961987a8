/* client/url.c: parsing; see client/url.h. */
#include "client/url.h"

#include <kvs/error.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define FORMS "log:DIR, rocksdb:DIR, memory:, kvs://HOST[:PORT] and tikv://PD[,PD...]"

struct url_why {
    char *text;
    int size;
};

__attribute__((format(printf, 2, 3))) static int fail(struct url_why why, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why.text, (size_t)why.size, format, args);
    va_end(args);
    return KVS_ERR_INVALID_ARGUMENT;
}

/* The part behind `prefix`, or NULL. */
static const char *after(const char *text, const char *prefix)
{
    size_t size = strlen(prefix);
    return strncmp(text, prefix, size) == 0 ? text + size : NULL;
}

static int parse_directory(enum url_scheme scheme, const char *name, const char *path,
                           struct url *url, struct url_why why)
{
    if (path[0] == '\0')
        return fail(why, "%s: needs a directory, as in %s:data", name, name);
    if (strlen(path) >= sizeof url->path)
        return fail(why, "%s: the path of the directory is too long", name);
    url->scheme = scheme;
    memcpy(url->path, path, strlen(path) + 1); /* fits: checked above */
    return 0;
}

static int parse_port(const char *text, uint16_t *ret_port)
{
    uint32_t port = 0;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 5 || text[digits] != '\0')
        return KVS_ERR_INVALID_ARGUMENT;
    for (size_t i = 0; i < digits; i++)
        port = port * 10 + (uint32_t)(text[i] - '0');
    if (port == 0 || port > 65535)
        return KVS_ERR_INVALID_ARGUMENT;
    *ret_port = (uint16_t)port;
    return 0;
}

static bool is_host_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           strchr("-._~:%", c) != NULL;
}

/* HOST, HOST:PORT, [IPV6] or [IPV6]:PORT, and a slash that may follow. */
static int parse_kvs(const char *text, struct url *url, struct url_why why)
{
    char rest[sizeof url->host + 16];
    size_t size = strlen(text);
    if (size > 0 && text[size - 1] == '/')
        size--;
    if (size == 0)
        return fail(why, "kvs:// needs a host, as in kvs://127.0.0.1:4000");
    if (size >= sizeof rest)
        return fail(why, "kvs://: the name of the host is too long");
    memcpy(rest, text, size);
    rest[size] = '\0';

    char *host = rest;
    char *end = strrchr(rest, ':');
    if (rest[0] == '[') {
        host = rest + 1;
        end = strchr(rest, ']');
        if (end == NULL || (end[1] != '\0' && end[1] != ':'))
            return fail(why, "kvs://%s: an IPv6 address stands in brackets, as in [::1]:4000",
                        rest);
        *end++ = '\0';
        end = *end == ':' ? end : NULL;
    } else if (end != NULL && strchr(rest, ':') != end) {
        return fail(why, "kvs://%s: an IPv6 address stands in brackets, as in [::1]:4000", rest);
    }
    url->port = URL_PORT_DEFAULT;
    if (end != NULL && parse_port(end + 1, &url->port) != 0)
        return fail(why, "kvs://%s: \"%s\" is no port from 1 to 65535", text, end + 1);
    if (end != NULL)
        *end = '\0';
    for (const char *at = host; *at != '\0'; at++) {
        if (!is_host_byte(*at))
            return fail(why, "kvs://%s: '%c' cannot be part of a host's name", text, *at);
    }
    if (host[0] == '\0' || strlen(host) >= sizeof url->host)
        return fail(why, "kvs://%s: the host is missing or its name is too long", text);
    url->scheme = URL_KVS;
    memcpy(url->host, host, strlen(host) + 1); /* fits: checked above */
    return 0;
}

/* ADDRESS[,ADDRESS...][/KEYSPACE]; what an address is, the client of PD knows. */
static int parse_tikv(const char *text, struct url *url, struct url_why why)
{
    size_t size = strcspn(text, "/");
    const char *keyspace = text[size] == '/' ? text + size + 1 : "";
    if (size == 0)
        return fail(why, "tikv:// needs addresses of PD, as in tikv://127.0.0.1:2379");
    if (size >= sizeof url->path || strlen(keyspace) >= sizeof url->keyspace)
        return fail(why, "tikv://: the addresses or the name of the keyspace are too long");
    url->scheme = URL_TIKV;
    memcpy(url->path, text, size);
    url->path[size] = '\0';
    memcpy(url->keyspace, keyspace, strlen(keyspace) + 1); /* fits: checked above */
    return 0;
}

int url_parse(const char *text, struct url *ret_url, char *ret_why, int size)
{
    struct url_why why = {ret_why, size};
    *ret_url = (struct url){0};
    if (text == NULL)
        return fail(why, "no URL; known are " FORMS);
    const char *rest;
    if ((rest = after(text, "log:")) != NULL)
        return parse_directory(URL_LOG, "log", rest, ret_url, why);
    if ((rest = after(text, "rocksdb:")) != NULL)
        return parse_directory(URL_ROCKSDB, "rocksdb", rest, ret_url, why);
    if ((rest = after(text, "kvs://")) != NULL)
        return parse_kvs(rest, ret_url, why);
    if ((rest = after(text, "tikv://")) != NULL)
        return parse_tikv(rest, ret_url, why);
    if ((rest = after(text, "memory:")) != NULL) {
        ret_url->scheme = URL_MEMORY;
        return rest[0] == '\0' ? 0 : fail(why, "memory: takes nothing behind the colon");
    }
    if (after(text, "esdb:") != NULL || after(text, "esdb+discover:") != NULL)
        return fail(why, "esdb: holds event streams, not keys and values: kvs_events_open, or "
                         "kvs-client events");
    const char *colon = strchr(text, ':');
    if (colon == NULL)
        return fail(why, "\"%.200s\" is no URL of a store; known are " FORMS, text);
    int scheme_size = colon - text < 40 ? (int)(colon - text) : 40;
    return fail(why, "\"%.*s:\" is no known kind of store; known are " FORMS, scheme_size, text);
}
