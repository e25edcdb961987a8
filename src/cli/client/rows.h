/*
 * cli/client/rows.h: how table.c and events_table.c write their rows: an option, its letter (0:
 * none), its field of struct client_options, how help names its value, and what help says.
 */
#ifndef CLI_CLIENT_ROWS_H
#define CLI_CLIENT_ROWS_H

#include "cli/client/client.h"

#define ROW(name, letter, kind, field, operand, min, max, choices, text)                     \
    {                                                                                        \
        name, letter, kind, offsetof(struct client_options, field), operand, text, min, max, \
            choices                                                                          \
    }

#define FLAG(name, letter, field, text) \
    ROW(name, letter, ARGUMENTS_FLAG, field, NULL, 0, 0, NULL, text)
#define VALUE(name, letter, kind, field, operand, text) \
    ROW(name, letter, kind, field, operand, 0, 0, NULL, text)
#define NUMBER(name, letter, kind, field, operand, min, max, text) \
    ROW(name, letter, kind, field, operand, min, max, NULL, text)
#define CHOICE(name, letter, field, choices, text) \
    ROW(name, letter, ARGUMENTS_CHOICE, field, NULL, 0, 0, choices, text)
#define OPTIONS_END \
    {               \
        0           \
    }

/* --- what both tables have --- */

#define OPTION_URL(text) VALUE("url", 'u', ARGUMENTS_STRING, url, "URL", text)
#define OPTIONS_TLS                                                     \
    VALUE("tls-ca", 0, ARGUMENTS_STRING, tls_ca, "FILE",                \
          "speak TLS, and trust these authorities (PEM)"),              \
        VALUE("tls-cert", 0, ARGUMENTS_STRING, tls_certificate, "FILE", \
              "speak TLS, and show this certificate when asked (PEM)"), \
        VALUE("tls-key", 0, ARGUMENTS_STRING, tls_key, "FILE", "with --tls-cert: its key (PEM)")
#define OPTION_TIMEOUT(text) \
    NUMBER("timeout", 't', ARGUMENTS_NUMBER, timeout_ms, "MS", 1, 24 * 3600 * 1000, text)
#define OPTION_HELP FLAG("help", 'h', help, "show help, here for the command, and exit")

#endif
