/*
 * cli/completion.h: a script that teaches a shell the words of a program. It is made of the tables
 * that parse them, and knows no more than help says: options, commands, and what the names of
 * operands tell. FILE is a file, DIR a directory, COMMAND a command; what is written in small
 * letters, as in "list|info STREAM", stands for itself. It runs without the program, and asks no
 * server.
 */
#ifndef CLI_COMPLETION_H
#define CLI_COMPLETION_H

#include "cli/arguments.h"

enum completion_shell { COMPLETION_BASH, COMPLETION_ZSH, COMPLETION_FISH, COMPLETION_NONE };

/* Of the option: --completion bash|zsh|fish; COMPLETION_NONE is its field's default. */
extern const char *const completion_shells[];
#define COMPLETION_TEXT "print this shell's completion script and exit"

void completion_print(const struct arguments_program *program, unsigned shell, FILE *file);

#endif
