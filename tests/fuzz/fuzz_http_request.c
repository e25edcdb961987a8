/*
 * fuzz/fuzz_http_request.c: requests of HTTP/1.1, one behind the other, with all that is read of
 * them. What is decoded lies in memory of exactly the size that is promised.
 */
#include "fuzz/target.h"
#include "server/http_request.h"

#include "base/mem.h"

#include <stdlib.h>

static bool lies_in(kvs_slice inner, const uint8_t *outer, size_t size)
{
    return inner.size == 0 ||
           (inner.data >= outer && inner.size <= size - (size_t)(inner.data - outer));
}

static void read_request(const struct http_request *request)
{
    size_t size = request->path.size + request->authorization.size;
    uint8_t *memory = mem_alloc(size);
    uint8_t *at = memory;
    kvs_slice path = request->path, part, login, password;
    int64_t number = 0;
    require(memory != NULL);
    require(path.size > 0 && path.data[0] == '/');
    path = slice_make(path.data + 1, path.size - 1);
    while (http_take_part(&path, &at, &part))
        require(part.size > 0 && lies_in(part, memory, request->path.size));
    if (http_query_number(request->query, "stopAt", &number))
        require(number >= 0);
    at = memory + request->path.size;
    if (http_basic_credentials(request->authorization, at, &login, &password))
        require(lies_in(login, at, request->authorization.size) &&
                lies_in(password, at, request->authorization.size));
    mem_free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    kvs_slice in = slice_make(data, size);
    struct http_request request;
    size_t taken;
    while (http_request_parse(in, &request, &taken) == HTTP_REQUEST) {
        require(taken > 0 && taken <= in.size);
        require(lies_in(request.method, in.data, taken) && lies_in(request.query, in.data, taken));
        read_request(&request);
        in = slice_make(in.data + taken, in.size - taken);
    }
    return 0;
}
