/* client/events/url.c: see the header. */
#include "client/events/url.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define TCP_PORT_DEFAULT 1113u
#define HTTP_PORT_DEFAULT 2113u
#define FORMS                                                      \
    "log:DIR, rocksdb:DIR, memory:, esdb://HOST[:PORT][,...] and " \
    "esdb+discover://HOST[:PORT][,...]"

struct parser {
    struct events_url *url;
    struct kvs_events_options *options;
    char *why;
    size_t why_size;
};

__attribute__((format(printf, 2, 3))) static int fail(const struct parser *parser,
                                                      const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(parser->why, parser->why_size, format, args);
    va_end(args);
    return KVS_ERR_INVALID_ARGUMENT;
}

static const char *after(const char *text, const char *prefix)
{
    size_t size = strlen(prefix);
    return strncmp(text, prefix, size) == 0 ? text + size : NULL;
}

/* --- texts -------------------------------------------------------------------------------------
 */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decodes into `ret_text`. False: too long, or no such byte. */
static bool decode(const char *text, size_t size, char *ret_text, size_t room)
{
    size_t to = 0;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (c == '%') {
            int high = i + 2 < size ? hex_digit(text[i + 1]) : -1;
            int low = i + 2 < size ? hex_digit(text[i + 2]) : -1;
            if (i + 2 == size - 0 || high < 0 || low < 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (c == '\0' || to + 1 >= room)
            return false;
        ret_text[to++] = c;
    }
    ret_text[to] = '\0';
    return true;
}

static bool parse_number(const char *text, uint32_t max, uint32_t *ret_number)
{
    uint64_t number = 0;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 10 || text[digits] != '\0')
        return false;
    for (size_t i = 0; i < digits; i++)
        number = number * 10 + (uint64_t)(text[i] - '0');
    if (number > max)
        return false;
    *ret_number = (uint32_t)number;
    return true;
}

/* --- the query ---------------------------------------------------------------------------------
 */

static int set_number(const struct parser *parser, const char *name, const char *value,
                      uint32_t *ret_number)
{
    if (!parse_number(value, INT32_MAX, ret_number))
        return fail(parser, "%s=%s: a number is wanted", name, value);
    return 0;
}

static int set_bool(const struct parser *parser, const char *name, const char *value, bool *ret)
{
    bool is_true = strcasecmp(value, "true") == 0;
    if (!is_true && strcasecmp(value, "false") != 0)
        return fail(parser, "%s=%s: true or false is wanted", name, value);
    *ret = is_true;
    return 0;
}

static int set_preference(const struct parser *parser, const char *value)
{
    static const char *const names[] = {"leader", "follower", "readOnlyReplica", "random"};
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcasecmp(names[i], value) == 0) {
            parser->options->node_preference = (enum kvs_node_preference)i;
            return 0;
        }
    }
    return fail(parser, "nodePreference=%s: known are leader, follower, readOnlyReplica, random",
                value);
}

static int set_text(const char *value, char *text, const char **ret_text)
{
    snprintf(text, EVENTS_URL_TEXT_SIZE, "%s", value);
    *ret_text = text;
    return 0;
}

static int set_port(const struct parser *parser, const char *name, const char *value,
                    uint16_t *ret_port)
{
    uint32_t port;
    if (!parse_number(value, UINT16_MAX, &port) || port == 0)
        return fail(parser, "%s=%s: a port from 1 to 65535 is wanted", name, value);
    *ret_port = (uint16_t)port;
    return 0;
}

static int set_option(const struct parser *parser, const char *name, const char *value)
{
    struct kvs_events_options *options = parser->options;
    const struct {
        const char *name;
        uint32_t *number;
    } numbers[] = {
        {"connectTimeout", &options->connect_timeout_ms},
        {"defaultDeadline", &options->timeout_ms},
        {"keepAliveInterval", &options->heartbeat_interval_ms},
        {"keepAliveTimeout", &options->heartbeat_timeout_ms},
        {"gossipTimeout", &options->gossip_timeout_ms},
        {"discoveryInterval", &options->discover_interval_ms},
        {"maxDiscoverAttempts", &options->discover_attempts_max},
        {"maxReconnects", &options->reconnects_max},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (strcasecmp(numbers[i].name, name) == 0)
            return set_number(parser, name, value, numbers[i].number);
    }
    if (strcasecmp(name, "httpPort") == 0)
        return set_port(parser, name, value, &options->http_port);
    if (strcasecmp(name, "tls") == 0)
        return set_bool(parser, name, value, &options->tls);
    if (strcasecmp(name, "tlsVerifyCert") == 0) {
        bool verify = true;
        int error = set_bool(parser, name, value, &verify);
        options->tls_insecure = !verify;
        return error;
    }
    if (strcasecmp(name, "nodePreference") == 0)
        return set_preference(parser, value);
    if (strcasecmp(name, "tlsCaFile") == 0)
        return set_text(value, parser->url->tls_ca, &options->tls_ca);
    if (strcasecmp(name, "connectionName") == 0)
        return set_text(value, parser->url->connection_name, &options->connection_name);
    return fail(parser,
                "%s= is no option of a URL of event streams: tls, tlsCaFile, tlsVerifyCert, "
                "nodePreference, connectionName, httpPort and times are, see kvs/events.h",
                name);
}

static int parse_query(const struct parser *parser, const char *query)
{
    while (*query != '\0') {
        char name[64];
        char value[EVENTS_URL_TEXT_SIZE];
        size_t size = strcspn(query, "&");
        const char *equals = memchr(query, '=', size);
        if (equals == NULL || !decode(query, (size_t)(equals - query), name, sizeof name) ||
            !decode(equals + 1, size - (size_t)(equals + 1 - query), value, sizeof value))
            return fail(parser, "\"%.*s\": NAME=VALUE is wanted", (int)(size < 80 ? size : 80),
                        query);
        int error = set_option(parser, name, value);
        if (error != 0)
            return error;
        query += size;
        if (*query == '&')
            query++;
    }
    return 0;
}

/* --- hosts -------------------------------------------------------------------------------------
 */

static bool is_host_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("-._:%", c) != NULL);
}

/* HOST, HOST:PORT, [IPV6] or [IPV6]:PORT. */
static int parse_node(const struct parser *parser, const char *text, size_t size,
                      struct gossip_node *ret_node)
{
    const char *host = text;
    const char *end = text + size;
    const char *host_end;
    if (size > 0 && text[0] == '[') {
        host++;
        host_end = memchr(text, ']', size);
        if (host_end == NULL)
            return fail(parser, "\"%.*s\": a bracket is not closed", (int)size, text);
        text = host_end + 1;
    } else {
        const char *colon = memchr(text, ':', size);
        host_end = text = colon != NULL ? colon : end;
    }
    size_t host_size = (size_t)(host_end - host);
    for (size_t i = 0; i < host_size; i++) {
        if (!is_host_byte(host[i]))
            return fail(parser, "'%c' cannot be part of a host's name", host[i]);
    }
    if (host_size == 0 || host_size >= sizeof ret_node->host)
        return fail(parser, "a host is missing or its name is too long");
    memcpy(ret_node->host, host, host_size);
    ret_node->host[host_size] = '\0';
    bool by_gossip = parser->url->scheme == EVENTS_URL_DISCOVER;
    uint32_t port = by_gossip ? HTTP_PORT_DEFAULT : TCP_PORT_DEFAULT;
    char digits[8] = {0};
    if (text != end) {
        size_t digits_size = (size_t)(end - text) - 1;
        if (*text == ':' && digits_size < sizeof digits)
            memcpy(digits, text + 1, digits_size);
        if (!parse_number(digits, UINT16_MAX, &port) || port == 0)
            return fail(parser, "\"%.*s\" is no port from 1 to 65535", (int)(end - text), text);
    }
    ret_node->port = (uint16_t)port;
    return 0;
}

static int parse_login(const struct parser *parser, const char *text, size_t size)
{
    struct events_url *url = parser->url;
    const char *colon = memchr(text, ':', size);
    size_t login_size = colon != NULL ? (size_t)(colon - text) : size;
    if (login_size == 0 || !decode(text, login_size, url->login, sizeof url->login) ||
        (colon != NULL &&
         !decode(colon + 1, size - login_size - 1, url->password, sizeof url->password)))
        return fail(parser, "USER:PASSWORD@ is wanted, percent-encoded, at most 255 bytes each");
    parser->options->login = url->login;
    parser->options->password = url->password;
    return 0;
}

static int parse_esdb(const struct parser *parser, const char *text)
{
    struct events_url *url = parser->url;
    size_t size = strcspn(text, "?/");
    const char *query = text + size;
    if (*query == '/')
        query++;
    if (*query != '\0' && *query != '?')
        return fail(parser, "nothing may stand behind the hosts but ?NAME=VALUE");
    const char *at = memrchr(text, '@', size);
    if (at != NULL) {
        int error = parse_login(parser, text, (size_t)(at - text));
        if (error != 0)
            return error;
        size -= (size_t)(at + 1 - text);
        text = at + 1;
    }
    for (;;) {
        const char *comma = memchr(text, ',', size);
        size_t node_size = comma != NULL ? (size_t)(comma - text) : size;
        if (url->nodes_count == EVENTS_URL_NODES_MAX)
            return fail(parser, "at most %u hosts", EVENTS_URL_NODES_MAX);
        int error = parse_node(parser, text, node_size, &url->nodes[url->nodes_count]);
        if (error != 0)
            return error;
        url->nodes_count++;
        if (comma == NULL)
            break;
        size -= node_size + 1;
        text = comma + 1;
    }
    return *query == '?' ? parse_query(parser, query + 1) : 0;
}

static int parse_directory(const struct parser *parser, enum events_url_scheme scheme,
                           const char *name, const char *path)
{
    parser->url->scheme = scheme;
    if (path[0] == '\0' || strlen(path) >= sizeof parser->url->path)
        return fail(parser, "%s: needs a directory, as in %s:data", name, name);
    memcpy(parser->url->path, path, strlen(path) + 1);
    return 0;
}

int events_url_parse(const char *text, struct events_url *ret_url,
                     struct kvs_events_options *options, char *ret_why, size_t size)
{
    const struct parser parser = {ret_url, options, ret_why, size};
    const char *rest;
    *ret_url = (struct events_url){0};
    if (text == NULL)
        return fail(&parser, "no URL; known are " FORMS);
    if ((rest = after(text, "log:")) != NULL)
        return parse_directory(&parser, EVENTS_URL_LOG, "log", rest);
    if ((rest = after(text, "rocksdb:")) != NULL)
        return parse_directory(&parser, EVENTS_URL_ROCKSDB, "rocksdb", rest);
    if ((rest = after(text, "memory:")) != NULL) {
        ret_url->scheme = EVENTS_URL_MEMORY;
        return rest[0] == '\0' ? 0 : fail(&parser, "memory: takes nothing behind the colon");
    }
    if ((rest = after(text, "esdb://")) != NULL) {
        ret_url->scheme = EVENTS_URL_ESDB;
        return parse_esdb(&parser, rest);
    }
    if ((rest = after(text, "esdb+discover://")) != NULL) {
        ret_url->scheme = EVENTS_URL_DISCOVER;
        return parse_esdb(&parser, rest);
    }
    return fail(&parser, "\"%.120s\" is no URL of event streams; known are " FORMS, text);
}
