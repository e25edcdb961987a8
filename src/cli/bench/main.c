/*
 * cli/bench/main.c: kvs-bench, load generator for the servers of four protocols.
 *
 *   1. read the command line, connect everything
 *   2. fill, warm up, measure, as far as asked for
 *   3. print the report
 *
 * SIGINT and SIGTERM end the phase that runs; what was measured until then is printed.
 */
#include "cli/bench/generator.h"
#include "cli/bench/report.h"
#include "cli/completion.h"
#include "cli/standard_files.h"

#include <kvs/error.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum { EXIT_USAGE = 2 };

static struct generator generator;
static struct result fill_result, measure_result; /* histograms: too large for a stack */

static void on_signal(int number)
{
    (void)number;
    generator_stop(&generator);
}

static int complain(const char *text)
{
    fprintf(stderr, "kvs-bench: %s\n", text);
    return EXIT_FAILURE;
}

static int stages_run(const struct bench_options *options, struct report *report, char *text)
{
    static struct result unused; /* of the warm-up */
    generator_watch_fn watch = isatty(STDERR_FILENO) ? report_watch : NULL;
    int error = 0;
    if (options->load || options->only_load) {
        error = generator_run(&generator, STAGE_FILL, &fill_result, watch, NULL);
        report->fill = &fill_result;
    }
    snprintf(text, TARGET_TEXT_MAX, "%s", kvs_error_text(error));
    if (error == 0 && !options->only_load)
        error = generator_check_begin(&generator, text);
    if (error == 0 && !options->only_load) {
        if (options->warm_up_ms > 0)
            error = generator_run(&generator, STAGE_WARM_UP, &unused, watch, NULL);
        if (error == 0)
            error = generator_run(&generator, STAGE_MEASURE, &measure_result, watch, NULL);
        report->measure = &measure_result;
        snprintf(text, TARGET_TEXT_MAX, "%s", kvs_error_text(error));
        if (error == 0)
            error = generator_check_end(&generator, text);
    }
    if (watch != NULL)
        report_watch_clear();
    return error;
}

int main(int argc, char **argv)
{
    static struct bench_options options;
    struct report report = {.options = &options};
    char message[ARGUMENTS_MESSAGE_SIZE], text[TARGET_TEXT_MAX];
    standard_files_open();
    if (bench_options_parse(&options, argc, argv, message) != 0) {
        fprintf(stderr, "kvs-bench: %s (kvs-bench --help lists the options)\n", message);
        return EXIT_USAGE;
    }
    if (options.help || options.version || options.completion != COMPLETION_NONE) {
        if (options.help)
            bench_options_help(stdout);
        else if (options.version)
            printf("kvs-bench %s\n", KVS_VERSION);
        else
            bench_options_completion(&options, stdout);
        return fflush(stdout) == 0 ? EXIT_SUCCESS : complain("cannot write to standard output");
    }
    int error = generator_open(&generator, &options, text);
    if (error != 0) {
        complain(text);
        return error == KVS_ERR_INVALID_ARGUMENT ? EXIT_USAGE : EXIT_FAILURE;
    }
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    error = stages_run(&options, &report, text);
    generator_close(&generator);
    if (error != 0)
        return complain(text);
    bool printed = true;
    if (options.json)
        printed = report_print_json(&report, stdout);
    else
        report_print_text(&report, stdout);
    if (!printed || fflush(stdout) != 0)
        return complain("cannot write the result");
    return report_is_clean(&report) ? EXIT_SUCCESS : EXIT_FAILURE;
}
