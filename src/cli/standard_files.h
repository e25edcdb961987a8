/* cli/standard_files.h: standard input, output and error of a program that was started without. */
#ifndef CLI_STANDARD_FILES_H
#define CLI_STANDARD_FILES_H

/*
 * First of all in main. A file that is opened takes the lowest free number: without this, the
 * store's files would take those of closed standard files, and what is printed would go into them.
 */
void standard_files_open(void);

#endif
