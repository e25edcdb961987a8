/*
 * cli/arguments.h: command lines as tables: the same rows parse the words, print the help, and
 * teach shells to complete them (completion.h says what it reads in the names of operands).
 *
 * A program is a list of commands (or one command without a name); a command is a row with its
 * operands, its options, its text and its examples. What a command line says is written into a
 * struct of the program's own, at the offset each option names; defaults are what the struct held
 * before. Words are slices, so that bytes from an interactive line may hold zeros; each must be
 * followed by a zero byte, as words from argv are.
 *
 * Rules for the person who types: options may stand before, between and after operands;
 * `--name VALUE`, `--name=VALUE`, `-n VALUE` and `-nVALUE` are the same; letters of flags may be
 * joined (`-er`); `--` ends the options; a lone `-` is an operand; the last of two equal options
 * wins.
 */
#ifndef CLI_ARGUMENTS_H
#define CLI_ARGUMENTS_H

#include "base/slice.h"

#include <stdio.h>

#define ARGUMENTS_MESSAGE_SIZE 320

/* What stands behind an option, and the type of the field it is written to. */
enum arguments_kind {
    ARGUMENTS_FLAG,     /* bool */
    ARGUMENTS_STRING,   /* const char *; no zero bytes inside */
    ARGUMENTS_OPTIONAL, /* likewise, only as --name=VALUE; "" for --name alone */
    ARGUMENTS_BYTES,    /* kvs_slice; data is not NULL once given, even when empty */
    ARGUMENTS_NUMBER,   /* uint64_t, from min to max */
    ARGUMENTS_SIZE,     /* uint64_t bytes, from min to max; 64k, 16m, 2g count in 1024 */
    ARGUMENTS_SECONDS,  /* uint64_t milliseconds, from min to max; written as seconds: 90 or 0.5 */
    ARGUMENTS_REAL,     /* double, not below 0 */
    ARGUMENTS_CHOICE,   /* unsigned: index in the list of choices */
    ARGUMENTS_ADDRESS,  /* const char *: HOST:PORT, an IPv6 address in brackets */
};

struct arguments_option {
    const char *name; /* without the dashes; NULL ends a list */
    char letter;      /* 0: none */
    enum arguments_kind kind;
    size_t offset;              /* of the field in the program's struct */
    const char *operand;        /* how help names the value: "MS"; NULL for flags and choices */
    const char *text;           /* one line of help, with the default */
    uint64_t min, max;          /* for numbers; max 0: no limit */
    const char *const *choices; /* for ARGUMENTS_CHOICE; NULL ends it */
};

struct arguments_command {
    const char *name;     /* NULL ends a list; "" for the only command of a program */
    const char *sought;   /* words that people try instead, with a blank between; may be NULL */
    const char *operands; /* as usage shows them: "KEY [VALUE]"; "" for none */
    unsigned operands_min, operands_max;
    const char *summary;     /* half a line, for the list of commands */
    const char *description; /* folded by help; newlines in it stay */
    const char *examples;    /* lines, ready to print */
    const struct arguments_option *options;
    int (*run)(void *context);               /* the program's own; not used here */
    const struct arguments_program *program; /* of its own commands, in place of run */
};

struct arguments_program {
    const char *name;
    const char *summary;
    const char *description; /* shown under the list of commands */
    const struct arguments_command *commands;
    const struct arguments_option *common; /* options of every command */
    /* Told of each option that was taken; NULL: nobody is. */
    void (*taken)(void *values, const struct arguments_option *option);
};

/*
 * Parses the words after the command's name. Operands are moved to the front of `words`, in their
 * order. `command` may be NULL: then only common options, up to the first operand, are taken, and
 * *ret_operands counts the words from there on. Returns 0, or KVS_ERR_INVALID_ARGUMENT and a
 * message for a person without newline. Does not count operands: --help comes first.
 */
int arguments_parse(const struct arguments_program *program,
                    const struct arguments_command *command, kvs_slice *words, size_t count,
                    void *values, size_t *ret_operands, char message[ARGUMENTS_MESSAGE_SIZE]);

/* Are there as many operands as the command takes? Returns as above. */
int arguments_check_operands(const struct arguments_command *command, const kvs_slice *operands,
                             size_t count, char message[ARGUMENTS_MESSAGE_SIZE]);

/* NULL when there is none of that name; then *ret_near, when asked for, is the name of one that is
 * similar or sought by that word, or NULL. */
const struct arguments_command *arguments_find_command(const struct arguments_program *program,
                                                       kvs_slice name, const char **ret_near);

/* Help: all commands in short, or one in full. */
void arguments_print_program(const struct arguments_program *program, FILE *file);
void arguments_print_command(const struct arguments_program *program,
                             const struct arguments_command *command, FILE *file);

#endif
