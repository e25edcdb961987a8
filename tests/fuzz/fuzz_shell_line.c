/*
 * tests/fuzz/fuzz_shell_line.c: a line of the shell, and the words of a command line.
 *
 * A line is split into words that end in a zero byte within their memory; each, written by the
 * shell's own quoting, is one word again. The words are then parsed by every command's table.
 */
#include "cli/client/client.h"
#include "cli/client/encoding.h"
#include "cli/client/shell_words.h"
#include "fuzz/target.h"

#include <stdlib.h>

static void requote(kvs_slice word)
{
    struct buf line = BUF_INIT;
    struct shell_words words;
    require(shell_word_append(&line, word) == 0);
    require(utf8_valid(buf_slice(&line)));
    require(shell_words_split(&words, buf_slice(&line)) == SHELL_SPLIT_OK);
    require(words.count == 1 && slice_equal(words.words[0], word));
    shell_words_deinit(&words);
    buf_deinit(&line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct shell_words words;
    enum shell_split split = shell_words_split(&words, slice_make(data, size));
    require(words.count <= size && words.last_begin <= size);
    for (size_t i = 0; i < words.count; i++) {
        require(words.words[i].data[words.words[i].size] == 0);
        requote(words.words[i]);
    }
    const struct arguments_command *command =
        words.count > 0 ? arguments_find_command(&client_program, words.words[0], NULL) : NULL;
    if (split == SHELL_SPLIT_OK && command != NULL) {
        struct client_options options = {0};
        char message[ARGUMENTS_MESSAGE_SIZE];
        size_t operands;
        if (arguments_parse(&client_program, command, words.words + 1, words.count - 1, &options,
                            &operands, message) == 0)
            arguments_check_operands(command, words.words + 1, operands, message);
    }
    shell_words_deinit(&words);
    return 0;
}
