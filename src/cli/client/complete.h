/* cli/client/complete.h: what Tab does in the shell: commands, options, keys of the store. */
#ifndef CLI_CLIENT_COMPLETE_H
#define CLI_CLIENT_COMPLETE_H

#include "cli/client/client.h"

#include <histedit.h>

/* Completes the word before the cursor. Returns what a function of libedit returns. */
unsigned char complete(struct client *client, EditLine *edit);

#endif
