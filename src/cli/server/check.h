/* cli/server/check.h: kvs-server --verify and --repair. */
#ifndef CLI_SERVER_CHECK_H
#define CLI_SERVER_CHECK_H

#include "cli/server/options.h"

/* Checks the directory, saves what can be read when --repair says where, and prints a report. The
 * exit status: success only when nothing is damaged; with a message when it could not be done. */
int check_directory(const struct server_settings *settings, char message[ARGUMENTS_MESSAGE_SIZE]);

#endif
