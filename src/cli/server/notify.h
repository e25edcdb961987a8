/* cli/server/notify.h: tells systemd how the server is, when it asked to be told. */
#ifndef CLI_SERVER_NOTIFY_H
#define CLI_SERVER_NOTIFY_H

/* Sends "READY=1" or "STOPPING=1" to $NOTIFY_SOCKET; does nothing without it, and a failure is
 * systemd's to notice. */
void notify_service_manager(const char *state);

#endif
