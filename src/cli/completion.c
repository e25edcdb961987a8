/*
 * cli/completion.c: see the header. What is common to all shells stands first: the contexts of a
 * program (before its command, and each command), and what may stand at a place of a context. Then
 * a printer for each shell.
 *
 *   bash  one function: the rows of the context as arrays, and code that walks the words to it
 *   zsh   a function for each context, around _arguments
 *   fish  a line for each option and operand, on the condition that the words are in its context
 */
#include "cli/completion.h"

#include <assert.h>
#include <string.h>

const char *const completion_shells[] = {"bash", "zsh", "fish", NULL};

#define NAME_SIZE_MAX 64
#define WORDS_SIZE_MAX 512

enum place_kind { PLACE_OPEN, PLACE_WORDS, PLACE_FILE, PLACE_DIRECTORY, PLACE_URL };

/* What may stand in the place of an operand, or of an option's value. */
struct place {
    enum place_kind kind;
    bool optional, repeated;
    char name[WORDS_SIZE_MAX];  /* as usage has it */
    char words[WORDS_SIZE_MAX]; /* of PLACE_WORDS, a blank behind each */
};

/* Where the words behind the program's name have led to. */
struct context {
    const struct arguments_program *program;
    const struct arguments_command *command; /* NULL: none of the program's was named yet */
    char path[NAME_SIZE_MAX];                /* names of commands: "", "set", "events append" */
};

struct script {
    FILE *file;
    const struct arguments_program *program;
    char symbol[NAME_SIZE_MAX]; /* its name for functions: kvs_client */
    void (*print)(const struct script *script, const struct context *context);
};

/* All options of such a program are its command's. */
static bool is_single(const struct arguments_program *program)
{
    bool single = program->commands[0].name[0] == '\0';
    assert(!single || program->common == NULL);
    return single;
}

static void visit(const struct script *script, const struct arguments_program *program,
                  const struct arguments_command *command, const char *path, const char *name)
{
    struct context context = {.program = program, .command = command};
    snprintf(context.path, sizeof context.path, "%s%s%s", path, path[0] != '\0' ? " " : "", name);
    script->print(script, &context);
}

/* Prints each context; a command with commands of its own is a program one level down. */
static void visit_all(const struct script *script)
{
    const struct arguments_program *program = script->program;
    if (!is_single(program))
        visit(script, program, NULL, "", "");
    for (const struct arguments_command *row = program->commands; row->name != NULL; row++) {
        const struct arguments_program *inner = row->program;
        visit(script, inner != NULL ? inner : program, inner != NULL ? NULL : row, "", row->name);
        if (inner == NULL)
            continue;
        for (const struct arguments_command *own = inner->commands; own->name != NULL; own++)
            visit(script, inner, own, row->name, own->name);
    }
}

/* --- places ----------------------------------------------------------------------------------- */

static void place_add_word(struct place *place, kvs_slice word)
{
    size_t used = strlen(place->words);
    assert(used + word.size + 2 <= sizeof place->words);
    snprintf(place->words + used, sizeof place->words - used, "%.*s ", (int)word.size,
             (const char *)word.data);
    place->kind = PLACE_WORDS;
}

/* One of the alternatives that bars divide. */
static void place_add(struct place *place, const struct arguments_program *program, kvs_slice part)
{
    static const struct {
        const char *name;
        enum place_kind kind;
    } known[] = {{"FILE", PLACE_FILE},
                 {"PATH", PLACE_DIRECTORY},
                 {"DIR", PLACE_DIRECTORY},
                 {"NEWDIR", PLACE_DIRECTORY},
                 {"URL", PLACE_URL}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (slice_equal(part, slice_of_string(known[i].name)))
            place->kind = known[i].kind;
    if (slice_equal(part, slice_of_string("COMMAND")))
        for (const struct arguments_command *row = program->commands; row->name != NULL; row++)
            place_add_word(place, slice_of_string(row->name));
    bool is_word = false;
    for (size_t i = 0; i < part.size; i++)
        is_word |= part.data[i] >= 'a' && part.data[i] <= 'z';
    if (is_word)
        place_add_word(place, part);
}

/* "KEY", "[FILE]", "list|info", "KEY...": a word of the usage text, or an option's operand. */
static void place_learn(struct place *place, const struct arguments_program *program,
                        const char *text, size_t size)
{
    if (size > 2 && text[0] == '[') {
        place->optional = true;
        text++, size -= 2;
    }
    if (size > 3 && memcmp(text + size - 3, "...", 3) == 0) {
        place->repeated = true;
        size -= 3;
    }
    if (place->name[0] == '\0')
        snprintf(place->name, sizeof place->name, "%.*s", (int)size, text);
    for (size_t i = 0, part; i < size; i += part + 1) {
        const char *bar = memchr(text + i, '|', size - i);
        part = bar != NULL ? (size_t)(bar - text) - i : size - i;
        place_add(place, program, slice_make(text + i, part));
    }
}

/* The operand of that number, from 0: false when there is none. A bar with blanks around begins
 * another order of operands. */
static bool place_of_operand(struct place *place, const struct context *context, unsigned number)
{
    const char *text = context->command != NULL ? context->command->operands : "COMMAND";
    unsigned at = 0;
    *place = (struct place){.kind = PLACE_OPEN};
    for (size_t size; *text != '\0'; text += size + (text[size] == ' ')) {
        size = strcspn(text, " ");
        if (size == 1 && *text == '|')
            at = 0;
        else if (at++ == number)
            place_learn(place, context->program, text, size);
    }
    return place->name[0] != '\0';
}

/* The value of an option that takes one. */
static void place_of_option(struct place *place, const struct context *context,
                            const struct arguments_option *option)
{
    *place = (struct place){.kind = PLACE_OPEN};
    if (option->kind != ARGUMENTS_CHOICE)
        place_learn(place, context->program, option->operand, strlen(option->operand));
    else
        for (unsigned i = 0; option->choices[i] != NULL; i++)
            place_add_word(place, slice_of_string(option->choices[i]));
    if (place->kind == PLACE_WORDS)
        snprintf(place->name, sizeof place->name, "%s", option->name);
}

/* Is its value the next word? */
static bool takes_word(const struct arguments_option *option)
{
    return option->kind != ARGUMENTS_FLAG && option->kind != ARGUMENTS_OPTIONAL;
}

/* Inside of single quotes, which all three shells have; with a backslash before some. */
static void put_quoted(FILE *file, const char *text, const char *escaped)
{
    for (; *text != '\0'; text++) {
        if (*text == '\'')
            fputs("'\\'", file);
        else if (strchr(escaped, *text) != NULL)
            fputc('\\', file);
        fputc(*text, file);
    }
}

/* --- bash ------------------------------------------------------------------------------------- */

static const char bash_head[] =
    "    local line=${COMP_LINE#*\"${COMP_WORDS[0]}\"} command='' below=yes ended='' takes='' "
    "place=0\n"
    "    local current word row value lead='' i\n"
    "    local -a words=('') common=() options=() operands=()\n"
    "    COMPREPLY=()\n"
    "    # Bash cuts words at = and : as well: what has no blank between belongs together.\n"
    "    for ((i = 1; i <= COMP_CWORD; i++)); do\n"
    "        word=${COMP_WORDS[i]}\n"
    "        if [[ $line == [[:space:]]* ]]; then\n"
    "            words+=(\"$word\")\n"
    "        else\n"
    "            words[${#words[@]} - 1]+=$word\n"
    "        fi\n"
    "        line=${line#*\"$word\"}\n"
    "    done\n"
    "    current=${words[${#words[@]} - 1]}\n"
    "    for word in \"${words[@]:0:${#words[@]} - 1}\"; do\n"
    "        if [[ -n $takes ]]; then\n"
    "            takes='' # this was its value\n"
    "        elif [[ -z $ended && $word == -?* ]]; then\n"
    "            [[ $word == -- ]] && ended=yes\n"
    "            for row in \"${options[@]}\" \"${common[@]}\"; do\n"
    "                [[ $row == *=* && \"|${row%%=*}|\" == *\"|$word|\"* ]] && takes=$row\n"
    "            done\n"
    "        elif [[ -n $below ]]; then\n"
    "            command+=${command:+ }$word\n"
    "            below=''\n"
    "            case $command in\n";

static const char bash_tail[] =
    "            *) return ;;\n"
    "            esac\n"
    "        else\n"
    "            place=$((place + 1))\n"
    "        fi\n"
    "    done\n"
    "    if [[ -n $takes ]]; then\n"
    "        value=${takes#*=}\n"
    "    elif [[ -z $ended && $current == --*=* ]]; then\n"
    "        lead=${current%%=*}=\n"
    "        for row in \"${options[@]}\" \"${common[@]}\"; do\n"
    "            [[ $row == *=* && \"|${row%%=*}|\" == *\"|${lead%=}|\"* ]] && value=${row#*=}\n"
    "        done\n"
    "    elif [[ -z $ended && ($current == -* || $place -ge ${#operands[@]}) ]]; then\n"
    "        for row in \"${options[@]}\" \"${common[@]}\"; do\n"
    "            row=${row%%=*}\n"
    "            value+=${row%%|*}\\|\n"
    "        done\n"
    "    else\n"
    "        value=${operands[place]}\n"
    "    fi\n"
    "    case $value in\n"
    "    FILE) compopt -o default ;;\n"
    "    DIRECTORY) compopt -o dirnames ;;\n"
    "    URL) [[ $current == *log:* || $current == *rocksdb:* ]] && compopt -o dirnames ;;\n"
    "    *)\n"
    "        while read -r word; do\n"
    "            COMPREPLY+=(\"$lead$word\")\n"
    "        done < <(compgen -W \"${value//|/ }\" -- \"${current#\"$lead\"}\")\n"
    "        # What stands before the last cut stays.\n"
    "        word=${COMP_WORDS[COMP_CWORD]}\n"
    "        [[ $word == [=:]* ]] && word=''\n"
    "        COMPREPLY=(\"${COMPREPLY[@]#\"${current%\"$word\"}\"}\")\n"
    "        ;;\n"
    "    esac\n"
    "}\n";

static void bash_place(const struct script *script, const struct place *place)
{
    static const char *const names[] = {[PLACE_OPEN] = "",
                                        [PLACE_FILE] = "FILE",
                                        [PLACE_DIRECTORY] = "DIRECTORY",
                                        [PLACE_URL] = "URL"};
    if (place->kind != PLACE_WORDS) {
        fputs(names[place->kind], script->file);
        return;
    }
    for (const char *at = place->words; *at != '\0'; at++)
        if (*at != ' ' || at[1] != '\0')
            fputc(*at == ' ' ? '|' : *at, script->file);
}

/* '--name|-n=value', without = if the next word is no value. */
static void bash_options(const struct script *script, const struct context *context,
                         const char *array, const struct arguments_option *row)
{
    struct place place;
    fprintf(script->file, "                %s=(", array);
    for (const char *gap = ""; row != NULL && row->name != NULL; row++, gap = " ") {
        fprintf(script->file, "%s'--%s", gap, row->name);
        if (row->letter != '\0')
            fprintf(script->file, "|-%c", row->letter);
        if (takes_word(row)) {
            fputc('=', script->file);
            place_of_option(&place, context, row);
            bash_place(script, &place);
        }
        fputc('\'', script->file);
    }
    fputs(")\n", script->file);
}

static void bash_print(const struct script *script, const struct context *context)
{
    struct place place;
    fprintf(script->file, "            '%s')\n", context->path);
    if (context->command == NULL)
        bash_options(script, context, "common", context->program->common);
    bash_options(script, context, "options",
                 context->command != NULL ? context->command->options : NULL);
    fputs("                operands=(", script->file);
    for (unsigned i = 0; place_of_operand(&place, context, i); i++) {
        fputs(i > 0 ? " '" : "'", script->file);
        bash_place(script, &place);
        fputc('\'', script->file);
    }
    fprintf(script->file, ")\n%s                ;;\n",
            context->command == NULL ? "                below=yes\n" : "");
}

static void bash_script(struct script *script)
{
    fprintf(script->file, "_%s() {\n%s", script->symbol, bash_head);
    script->print = bash_print;
    visit_all(script);
    fprintf(script->file, "%scomplete -F _%s %s\n", bash_tail, script->symbol,
            script->program->name);
}

/* --- zsh -------------------------------------------------------------------------------------- */

#define ZSH_ESCAPED "\\[]:"

static void zsh_function(const struct script *script, const char *path)
{
    fprintf(script->file, "_%s%s", script->program->name, path[0] != '\0' ? "_" : "");
    for (; *path != '\0'; path++)
        fputc(*path == ' ' ? '_' : *path, script->file);
}

/* :MESSAGE:ACTION of _arguments */
static void zsh_place(const struct script *script, const struct place *place)
{
    fputc(':', script->file);
    put_quoted(script->file, place->name, ZSH_ESCAPED);
    fputc(':', script->file);
    switch (place->kind) {
    case PLACE_WORDS:
        fprintf(script->file, "(%.*s)", (int)strlen(place->words) - 1, place->words);
        break;
    case PLACE_FILE:
        fputs("_files", script->file);
        break;
    case PLACE_DIRECTORY:
        fputs("_directories", script->file);
        break;
    case PLACE_URL:
        fputs("{ compset -P \"(log|rocksdb)\\:\" && _directories }", script->file);
        break;
    case PLACE_OPEN:
        fputc(' ', script->file);
        break;
    }
}

static void zsh_options(const struct script *script, const struct context *context,
                        const struct arguments_option *row)
{
    struct place place;
    for (; row != NULL && row->name != NULL; row++) {
        const char *mark = takes_word(row) ? "=" : row->kind == ARGUMENTS_OPTIONAL ? "=-" : "";
        fputs("        ", script->file);
        if (row->letter != '\0')
            fprintf(script->file, "'(-%c --%s)'{-%c%s,--%s%s}'", row->letter, row->name,
                    row->letter, takes_word(row) ? "+" : "", row->name, mark);
        else
            fprintf(script->file, "'--%s%s", row->name, mark);
        fputc('[', script->file);
        put_quoted(script->file, row->text, ZSH_ESCAPED);
        fputc(']', script->file);
        if (row->kind != ARGUMENTS_FLAG) {
            place_of_option(&place, context, row);
            if (row->kind == ARGUMENTS_OPTIONAL)
                fputc(':', script->file);
            zsh_place(script, &place);
        }
        fputs("'\n", script->file);
    }
}

static void zsh_operands(const struct script *script, const struct context *context)
{
    struct place place;
    for (unsigned i = 0; place_of_operand(&place, context, i); i++) {
        if (place.repeated)
            fputs("        '*", script->file);
        else
            fprintf(script->file, "        '%u%s", i + 1, place.optional ? ":" : "");
        zsh_place(script, &place);
        fputs("'\n", script->file);
    }
}

/* The function of a program with commands; theirs are called by it, and see its arrays. */
static void zsh_commands(const struct script *script, const struct context *context)
{
    fputs("    local curcontext=$curcontext state state_descr line ret=1\n"
          "    local -A opt_args\n"
          "    local -a common=(\n",
          script->file);
    zsh_options(script, context, context->program->common);
    fputs("    ) commands=(\n", script->file);
    const struct arguments_command *row = context->program->commands;
    for (; row->name != NULL; row++) {
        fprintf(script->file, "        '%s:", row->name);
        put_quoted(script->file, row->summary, "\\");
        fputs("'\n", script->file);
    }
    fputs("    )\n"
          "    _arguments -C -s -S : $common '(-): :->command' '(-)*:: :->rest' && ret=0\n"
          "    case $state in\n"
          "    command) _describe -t commands command commands && ret=0 ;;\n"
          "    rest) _call_function ret ",
          script->file);
    zsh_function(script, context->path);
    fputs("_$words[1] ;;\n    esac\n    return ret\n", script->file);
}

static void zsh_print(const struct script *script, const struct context *context)
{
    zsh_function(script, context->path);
    fputs("() {\n", script->file);
    if (context->command == NULL) {
        zsh_commands(script, context);
    } else {
        fputs("    local -a own=(\n", script->file);
        zsh_options(script, context, context->command->options);
        zsh_operands(script, context);
        fprintf(script->file, "    )\n    _arguments -s -S : $own%s\n",
                is_single(context->program) ? "" : " $common");
    }
    fputs("}\n\n", script->file);
}

static void zsh_script(struct script *script)
{
    script->print = zsh_print;
    visit_all(script);
    /* From a folder of $fpath the script is the body of the function's first call. */
    const char *name = script->program->name;
    fprintf(script->file,
            "if [[ $funcstack[1] == _%s ]]; then\n    _%s \"$@\"\nelse\n    compdef _%s %s\nfi\n",
            name, name, name, name);
}

/* --- fish ------------------------------------------------------------------------------------- */

static const char fish_at[] =
    "    set -l words (commandline -opc)\n"
    "    set -l path (string split -n / $argv[2])\n"
    "    set -l operands\n"
    "    set -l is_value no\n"
    "    set -e words[1]\n"
    "    for word in $words\n"
    "        if test $is_value = yes\n"
    "            set is_value no\n"
    "        else if string match -q -- '-*' $word\n"
    "            contains -- $word $takes; and set is_value yes\n"
    "        else\n"
    "            set -a operands $word\n"
    "        end\n"
    "    end\n"
    "    set -l count (count $path)\n"
    "    if test $count -gt 0; and test \"$operands[1..$count]\" != \"$path\"\n"
    "        return 1\n"
    "    end\n"
    "    test $argv[1] = any; or test (count $operands) -eq (math $count + $argv[1])\n"
    "end\n";

/* The directory of a URL. */
static const char fish_url[] =
    " -a '(string match -rq \"^(-[^=]*=)?(?<scheme>(log|rocksdb):)(?<path>.*)\" -- "
    "(commandline -ct); and printf \"%s\\n\" $scheme(__fish_complete_directories $path))'";

static void fish_takes(const struct script *script, const struct arguments_option *row)
{
    for (; row != NULL && row->name != NULL; row++) {
        if (takes_word(row) && row->letter != '\0')
            fprintf(script->file, " -%c", row->letter);
        if (takes_word(row))
            fprintf(script->file, " --%s", row->name);
    }
}

/* "complete -c PROGRAM" for operand `number`, or for options (-1). */
static void fish_begin(const struct script *script, const struct context *context, int number)
{
    fprintf(script->file, "complete -c %s", script->program->name);
    if (is_single(script->program))
        return;
    fprintf(script->file, " -n '__%s_at ", script->symbol);
    if (number < 0)
        fputs("any /", script->file);
    else
        fprintf(script->file, "%d /", number);
    for (const char *at = context->path; *at != '\0'; at++)
        fputc(*at == ' ' ? '/' : *at, script->file);
    if (number >= 0)
        fish_takes(script, context->command != NULL ? context->command->options : NULL);
    else if (context->command == NULL)
        for (const struct arguments_command *row = context->program->commands; row->name; row++)
            if (row->program != NULL)
                fprintf(script->file, "; and not __%s_at any /%s", script->symbol, row->name);
    fputc('\'', script->file);
}

static void fish_place(const struct script *script, const struct place *place)
{
    switch (place->kind) {
    case PLACE_WORDS:
        fprintf(script->file, " -a '%.*s'", (int)strlen(place->words) - 1, place->words);
        break;
    case PLACE_FILE:
        fputs(" -F", script->file);
        break;
    case PLACE_DIRECTORY:
        fputs(" -a '(__fish_complete_directories)'", script->file);
        break;
    case PLACE_URL:
        fputs(fish_url, script->file);
        break;
    case PLACE_OPEN:
        break;
    }
}

static void fish_text(const struct script *script, const char *text)
{
    fputs(" -d '", script->file);
    put_quoted(script->file, text, "\\");
    fputs("'\n", script->file);
}

static void fish_options(const struct script *script, const struct context *context,
                         const struct arguments_option *row)
{
    struct place place;
    for (; row != NULL && row->name != NULL; row++) {
        fish_begin(script, context, -1);
        fprintf(script->file, " -l %s", row->name);
        if (row->letter != '\0')
            fprintf(script->file, " -s %c", row->letter);
        if (takes_word(row)) {
            place_of_option(&place, context, row);
            fputs(place.kind == PLACE_FILE ? " -r" : " -x", script->file);
            fish_place(script, &place);
        }
        fish_text(script, row->text);
    }
}

static void fish_operands(const struct script *script, const struct context *context)
{
    struct place place;
    for (unsigned i = 0; place_of_operand(&place, context, i); i++) {
        if (place.kind == PLACE_OPEN)
            continue;
        fish_begin(script, context, (int)i);
        fish_place(script, &place);
        fputc('\n', script->file);
    }
}

static void fish_commands(const struct script *script, const struct context *context)
{
    const struct arguments_command *row = context->program->commands;
    for (; row->name != NULL; row++) {
        fish_begin(script, context, 0);
        fprintf(script->file, " -a %s", row->name);
        fish_text(script, row->summary);
    }
}

/* Common options hold in the commands, too: fish_begin's condition is true for all below. */
static void fish_print(const struct script *script, const struct context *context)
{
    if (context->command != NULL) {
        fish_options(script, context, context->command->options);
        fish_operands(script, context);
    } else {
        fish_commands(script, context);
        fish_options(script, context, context->program->common);
    }
}

static void fish_print_takes(const struct script *script, const struct context *context)
{
    if (context->command == NULL)
        fish_takes(script, context->program->common);
}

static void fish_script(struct script *script)
{
    if (!is_single(script->program)) {
        fprintf(script->file,
                "# Is it operand $argv[1] (or any) of the command $argv[2]? Options with a value "
                "follow.\nfunction __%s_at\n    set -l takes $argv[3..-1]",
                script->symbol);
        script->print = fish_print_takes;
        visit_all(script);
        fprintf(script->file, "\n%s\n", fish_at);
    }
    fprintf(script->file, "complete -c %s -f\n", script->program->name);
    script->print = fish_print;
    visit_all(script);
}

/* ---------------------------------------------------------------------------------------------- */

void completion_print(const struct arguments_program *program, unsigned shell, FILE *file)
{
    static void (*const scripts[])(struct script *) = {bash_script, zsh_script, fish_script};
    struct script script = {.file = file, .program = program};
    assert(shell < COMPLETION_NONE);
    for (size_t i = 0; program->name[i] != '\0' && i + 1 < sizeof script.symbol; i++)
        script.symbol[i] = program->name[i] == '-' ? '_' : program->name[i];
    if (shell == COMPLETION_ZSH)
        fprintf(file, "#compdef %s\n", program->name);
    fprintf(file, "# Words of %s for %s; made by: %s --completion %s\n", program->name,
            completion_shells[shell], program->name, completion_shells[shell]);
    scripts[shell](&script);
}
