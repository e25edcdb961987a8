/* client/eventstore/discover.c: see the header. */
#include "client/eventstore/discover.h"

#include "base/clock.h"

#include <stdio.h>

static void discover_ask_next(struct discover *discover);

void discover_init(struct discover *discover, struct loop *loop, kvs_thread_pool *pool,
                   const struct discover_config *config)
{
    *discover = (struct discover){
        .config = config,
        .loop = loop,
        .pool = pool,
        .rand = rand_seed(clock_now_ns() ^ (uintptr_t)discover),
    };
    uv_timer_init(loop->uv, &discover->timer); /* cannot fail */
    discover->timer.data = discover;
}

/* --- a round of gossip -------------------------------------------------------------------------
 */

static void discover_shuffle(struct discover *discover)
{
    for (unsigned i = discover->candidates_count; i > 1; i--) {
        unsigned j = (unsigned)rand_below(&discover->rand, i);
        struct gossip_node swapped = discover->candidates[i - 1];
        discover->candidates[i - 1] = discover->candidates[j];
        discover->candidates[j] = swapped;
    }
}

static void discover_begin_round(struct discover *discover)
{
    const struct discover_config *config = discover->config;
    unsigned count = 0;
    for (unsigned i = 0; i < config->nodes_count; i++)
        discover->candidates[count++] = config->nodes[i];
    for (unsigned i = 0; i < discover->heard.count; i++) {
        if (discover->heard.members[i].http.port != 0)
            discover->candidates[count++] = discover->heard.members[i].http;
    }
    discover->candidates_count = count;
    discover->candidates_next = 0;
    discover->rounds++;
    discover->why[0] = '\0';
    discover_shuffle(discover);
}

static void discover_on_interval(uv_timer_t *timer)
{
    struct discover *discover = timer->data;
    discover_begin_round(discover);
    discover_ask_next(discover);
}

static void discover_on_round_ended(struct discover *discover)
{
    if (discover->rounds < discover->config->attempts_max) {
        uv_timer_start(&discover->timer, discover_on_interval, discover->config->interval_ms, 0);
        return;
    }
    struct link *link = discover->link;
    char why[sizeof discover->why + 64];
    snprintf(why, sizeof why, "no node of the cluster could be found: %s", discover->why);
    discover->link = NULL;
    link_not_found(link, discover->error, why);
}

void discover_add_why(char why[DISCOVER_WHY_SIZE], const char *more)
{
    size_t size = strlen(why);
    int added = snprintf(why + size, DISCOVER_WHY_SIZE - size, "%s%s", size > 0 ? "; " : "", more);
    if (added < 0 || (size_t)added >= DISCOVER_WHY_SIZE - size)
        memcpy(why + DISCOVER_WHY_SIZE - sizeof "...", "...", sizeof "...");
}

static void discover_go(struct discover *discover, const struct gossip_node *node)
{
    discover->tried = *node;
    discover->has_tried = true;
    link_set_address(discover->link, node->host, node->port);
}

static bool discover_take_answer(struct discover *discover, const struct http_call *http)
{
    const struct discover_config *config = discover->config;
    struct gossip heard;
    char why[sizeof http->why + 64];
    if (http->error != 0 || http->status != 200 ||
        gossip_parse(http->body, config->is_tls, &heard) != 0) {
        discover->error = http->error != 0 ? http->error : KVS_ERR_PROTOCOL;
        if (http->error != 0)
            snprintf(why, sizeof why, "%s", http->why);
        else
            snprintf(why, sizeof why, "%s: no gossip (HTTP status %d)", http->link.name,
                     http->status);
        discover_add_why(discover->why, why);
        return false;
    }
    const struct gossip_member *member =
        gossip_choose(&heard, config->preference, discover->has_failed ? &discover->failed : NULL,
                      &discover->rand);
    if (member == NULL) {
        discover->error = KVS_ERR_CONNECT;
        snprintf(why, sizeof why, "%s knows no node that is up and serves TCP%s", http->link.name,
                 config->is_tls ? " with TLS" : "");
        discover_add_why(discover->why, why);
        return false;
    }
    discover->heard = heard;
    discover_go(discover, &member->tcp);
    return true;
}

static void discover_on_closed(uv_handle_t *handle)
{
    struct discover *discover = handle->data;
    discover->closed(discover);
}

static void discover_on_answer(struct http_call *http)
{
    struct discover *discover = http->arg;
    discover->asking = false;
    bool found = !discover->closing && discover_take_answer(discover, http);
    http_call_deinit(http);
    if (discover->closing) {
        uv_close((uv_handle_t *)&discover->timer, discover_on_closed);
    } else if (found) {
        struct link *link = discover->link;
        discover->link = NULL;
        link_found(link);
    } else {
        discover_ask_next(discover);
    }
}

static void discover_ask_next(struct discover *discover)
{
    const struct discover_config *config = discover->config;
    if (discover->candidates_next >= discover->candidates_count) {
        discover_on_round_ended(discover);
        return;
    }
    const struct gossip_node *node = &discover->candidates[discover->candidates_next++];
    discover->http = (struct http_call){
        .loop = discover->loop,
        .pool = discover->pool,
        .tls = config->tls,
        .host = node->host,
        .port = node->port,
        .method = "GET",
        .path = "/gossip?format=json",
        .timeout_ms = config->timeout_ms,
        .done = discover_on_answer,
        .arg = discover,
    };
    discover->asking = true;
    http_call_start(&discover->http);
}

/* --- what the connection says and asks ---------------------------------------------------------
 */

bool discover_next(struct discover *discover, struct link *link)
{
    const struct discover_config *config = discover->config;
    discover->link = link;
    if (discover->has_preferred) {
        discover->has_preferred = false;
        discover_go(discover, &discover->preferred);
        return true;
    }
    if (!config->by_gossip) {
        discover_go(discover, &config->nodes[discover->next % config->nodes_count]);
        return true;
    }
    discover->rounds = 0;
    discover_begin_round(discover);
    discover_ask_next(discover);
    return false;
}

void discover_prefer(struct discover *discover, const char *host, uint16_t port)
{
    snprintf(discover->preferred.host, sizeof discover->preferred.host, "%s", host);
    discover->preferred.port = port;
    discover->has_preferred = true;
}

bool discover_skip(struct discover *discover)
{
    discover->next++;
    return discover->config->by_gossip || discover->config->nodes_count > 1;
}

void discover_on_established(struct discover *discover)
{
    discover->has_failed = false;
}

void discover_on_lost(struct discover *discover, bool was_established)
{
    if (!was_established)
        discover->next++;
    discover->failed = discover->tried;
    discover->has_failed = discover->has_tried;
}

void discover_close(struct discover *discover, void (*closed)(struct discover *discover))
{
    discover->closed = closed;
    discover->closing = true;
    if (discover->asking)
        http_call_cancel(&discover->http);
    else
        uv_close((uv_handle_t *)&discover->timer, discover_on_closed);
}
