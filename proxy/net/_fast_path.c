/* The fast path: `proxy/net/fast_path.py` says what it does and what each function is for. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "../_arguments.h"
#include "../sql/_skeleton.h"
#include "../wire/_messages.h"
#include "_sockets.h"

#define MOST_EVENTS 256
#define ROUNDS 8          /* before others get their turn */
#define FEW 2             /* fewer at once: more are hardly ready by now */
#define BLOCK (16 * 1024) /* longer messages and answers go the long way */
#define ARENA (256 * 1024)
#define MOST_TEXTS 8192 /* of one group; then it begins anew */
#define MOST_BOUNDS 32

enum { CLIENT, SERVER };
/* What becomes of a connection that leaves: see `fast_path.py`. */
enum { ASKS, RESUMES, RETURNS, REST, UNSENT };

typedef struct {
    PyObject *owner;
    int role, group;
    int peer; /* the other end of what is under way, or -1 */
    int slot;
    double started;
    int touched; /* 1: something was done for it since it was last asked for, 2: ever */
    int unsent;  /* a server's: the request is yet to be sent */
    double since; /* when it began to wait for a server; 0: it doesn't */
    PyObject *statements; /* a client's by its names for them; a server's descriptions by its own */
    PyObject *statement;  /* that the client's request runs by name, or NULL */
    char *request;
    Py_ssize_t size, room; /* the last request, and what there is room for */
    char *before;
    Py_ssize_t before_size, before_room; /* the last one that didn't run a statement by its name,
                                          * if others have come since; a server's: the last with
                                          * Parse, or its first byte for one without */
} Place;

typedef struct {
    Py_hash_t hash;
    Py_ssize_t size;
    int slot;
    char *key; /* NULL: free */
} Text;

typedef struct {
    int *idle; /* descriptors; the last was used last */
    int idle_count, idle_room, servers;
    int *queue; /* clients that wait for a server, the first come first */
    int queue_count, queue_room;
    Text *texts;
    size_t texts_room, texts_count;
    int members; /* places in this group */
    int next;    /* where its clients go on with their next requests */
    int crowded; /* no server is to be had elsewhere either: who finds none free waits here */
    int wanted;  /* others wait for its servers: give them back, */
    int owed;    /* the next one at once, as the last was not */
    int closed, ended;
    long long simple, parsed, bound, bytes_in, bytes_out; /* since they were collected */
    double waits;
} Group;

typedef struct {
    int first_only; /* what was asked for before leaves */
    long long count, buckets[MOST_BOUNDS + 1];
    double total;
} Slot;

typedef struct {
    int descriptor, is_client;
    const char *data;
    Py_ssize_t size;
} Outgoing;

static Place **places;
static int places_room;
static Group *groups;
static int groups_count;
static Slot *slots;
static int slots_count;
static double bounds[MOST_BOUNDS];
static int bounds_count;
static unsigned char noteworthy[KINDS];
static PyObject *odd; /* a list */
static Py_buffer door; /* of 64-bit hashes, a power of two of them */
static PyObject *stale, *name_name, *description_name;
static Outgoing outgoing[2 * MOST_EVENTS]; /* an answer, and a request of who has waited */
static int outgoing_count;
static char arena[ARENA];
static Py_ssize_t arena_used;

static double monotonic(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static Place *place_of(int descriptor) {
    return descriptor >= 0 && descriptor < places_room ? places[descriptor] : NULL;
}

static Py_hash_t hash_of(const char *key, Py_ssize_t size) {
#if PY_VERSION_HEX >= 0x030E0000
    return Py_HashBuffer(key, size);
#else
    return _Py_HashBytes(key, size); /* seeded, so that nobody can choose texts that collide */
#endif
}

/* Texts */

static Text *text_at(Group *group, const char *key, Py_ssize_t size, Py_hash_t hash) {
    size_t mask = group->texts_room - 1;
    for (size_t at = (size_t)hash & mask;; at = (at + 1) & mask) {
        Text *text = &group->texts[at];
        if (text->key == NULL) return text;
        if (text->hash == hash && text->size == size &&
            memcmp(text->key, key, (size_t)size) == 0)
            return text;
    }
}

static void forget_texts(Group *group) {
    for (size_t at = 0; at < group->texts_room; at++) free(group->texts[at].key);
    free(group->texts);
    group->texts = NULL;
    group->texts_room = group->texts_count = 0;
}

static int grow_texts(Group *group) {
    size_t room = group->texts_room ? 2 * group->texts_room : 64;
    Text *old = group->texts, *made = calloc(room, sizeof(Text));
    size_t old_room = group->texts_room;
    if (made == NULL) return 0;
    group->texts = made;
    group->texts_room = room;
    for (size_t at = 0; at < old_room; at++)
        if (old[at].key != NULL)
            *text_at(group, old[at].key, old[at].size, old[at].hash) = old[at];
    free(old);
    return 1;
}

static int slot_of(Group *group, const char *key, Py_ssize_t size) {
    if (!group->texts_count) return -1;
    Text *text = text_at(group, key, size, hash_of(key, size));
    return text->key == NULL ? -1 : text->slot;
}

/* The key of a request, its first byte the kind: 's' for a skeleton, 'Q' for a text as it is, 'P'
 * for what Parse prepares. Its length, or 0 for what is no request of the fast path. */
static Py_ssize_t key_of(const char *request, Py_ssize_t size, int exact, char *key) {
    const unsigned char *data = (const unsigned char *)request;
    Execution one;
    if (size < 7 || size >= BLOCK) return 0;
    if (data[0] == 'Q') {
        if (end_of(data, size, 0, 'Q') != size || data[size - 1] ||
            memchr(data + 5, 0, (size_t)(size - 6)) != NULL)
            return 0;
        if (!exact) {
            Py_ssize_t length = bones_of(data + 5, size - 6, key + 1);
            key[0] = 's';
            if (length >= 0) return 1 + length;
        }
        key[0] = exact ? 'Q' : 's';
        memcpy(key + 1, request + 5, (size_t)(size - 6));
        return size - 5;
    }
    if (!find_execution(data, size, 0, &one) || one.end != size) return 0;
    Py_ssize_t from = one.parses ? one.content : one.name;
    Py_ssize_t to = one.parses ? one.content_end : one.name_end;
    if (from == to) return 0;
    key[0] = one.parses ? 'P' : 'B';
    memcpy(key + 1, request + from, (size_t)(to - from));
    return 1 + to - from;
}

/* Statements */

/* What a client runs by this request; borrowed. NULL if that isn't known, or on an error. */
static PyObject *statement_of(Place *client, const char *request, Py_ssize_t size) {
    Execution one;
    if (!find_execution((const unsigned char *)request, size, 0, &one) || one.end != size)
        return NULL;
    PyObject *name = PyBytes_FromStringAndSize(request + one.name, one.name_end - one.name);
    if (name == NULL) return NULL;
    PyObject *found = PyDict_GetItemWithError(client->statements, name);
    Py_DECREF(name);
    if (found == NULL || !one.describes) return found;
    /* A server is asked what the rows are like where the client hasn't been told: the long way. */
    PyObject *told = PyObject_GetAttr(found, description_name);
    Py_XDECREF(told);
    return told == NULL || told == Py_None ? NULL : found;
}

/* The server's name of a statement, a new reference to bytes; NULL on an error. */
static PyObject *name_of(PyObject *statement) {
    PyObject *name = PyObject_GetAttr(statement, name_name);
    if (name != NULL && !PyBytes_CheckExact(name)) Py_CLEAR(name);
    if (name == NULL && !PyErr_Occurred())
        PyErr_SetString(PyExc_TypeError, "a statement's name is bytes");
    return name;
}

/* Whether a server has the statement, as its clients know it, or none is needed (NULL): 1, 0, or -1
 * for an error. The same as `session.batch.is_ready`. */
static int has(Place *server, PyObject *statement) {
    if (statement == NULL) return 1;
    PyObject *name = name_of(statement);
    if (name == NULL) return -1;
    PyObject *there = PyDict_GetItemWithError(server->statements, name);
    Py_DECREF(name);
    if (there == NULL || there == stale) return PyErr_Occurred() ? -1 : 0;
    PyObject *told = PyObject_GetAttr(statement, description_name);
    if (told == NULL) return -1;
    int same = told == there || told == Py_None;
    Py_DECREF(told);
    return same;
}

/* A request as the server has to be sent it, with its own name for the statement, into `out`,
 * which has room for `room` bytes; its length, 0 where that is too long, -1 for an error. */
static Py_ssize_t renamed(PyObject *statement, const char *request, Py_ssize_t request_size,
                          char *out, Py_ssize_t room) {
    Execution one;
    const unsigned char *data = (const unsigned char *)request;
    if (!find_execution(data, request_size, 0, &one)) return 0;
    PyObject *name = name_of(statement);
    if (name == NULL) return -1;
    Py_ssize_t length = PyBytes_GET_SIZE(name), old = one.name_end - one.name;
    Py_ssize_t size = request_size - old + length;
    if (size <= room)
        rename_bind(data, 0, request_size, old, PyBytes_AS_STRING(name), length,
                    (unsigned char *)out);
    else
        size = 0;
    Py_DECREF(name);
    return size;
}

/* The slot of a client's request, or -1 where it is none of the fast path, -2 for an error. What it
 * runs by name is noted. */
static int recognised(Group *group, Place *client, const char *request, Py_ssize_t size) {
    char key[BLOCK];
    client->statement = NULL;
    if (request[0] == 'B') {
        PyObject *statement = group->texts_count ? statement_of(client, request, size) : NULL;
        PyObject *name = statement == NULL ? NULL : name_of(statement);
        if (name == NULL) return PyErr_Occurred() ? -2 : -1;
        Py_ssize_t length = PyBytes_GET_SIZE(name);
        key[0] = 'B';
        if (length < BLOCK) memcpy(key + 1, PyBytes_AS_STRING(name), (size_t)length);
        Py_DECREF(name);
        client->statement = statement;
        return length < BLOCK ? slot_of(group, key, 1 + length) : -1;
    }
    Py_ssize_t length = key_of(request, size, 0, key);
    int slot = length ? slot_of(group, key, length) : -1;
    if (slot >= 0 || request[0] != 'Q' || !length) return slot;
    length = key_of(request, size, 1, key);
    return slot_of(group, key, length);
}

/* Places */

static void take_out(int *list, int *count, int descriptor) {
    for (int at = 0; at < *count; at++) {
        if (list[at] != descriptor) continue;
        memmove(&list[at], &list[at + 1], (size_t)(*count - at - 1) * sizeof(int));
        --*count;
        break;
    }
}

static void leave_group(Place *place, int descriptor) {
    Group *group = &groups[place->group];
    group->members--;
    if (place->role == SERVER) {
        group->servers--;
        take_out(group->idle, &group->idle_count, descriptor);
    } else if (place->since) {
        take_out(group->queue, &group->queue_count, descriptor);
    }
}

/* Takes a place away; the caller gets its reference to the owner. */
static PyObject *vacate(int descriptor) {
    Place *place = places[descriptor];
    PyObject *owner = place->owner;
    leave_group(place, descriptor);
    places[descriptor] = NULL;
    Py_DECREF(place->statements);
    free(place->request);
    free(place->before);
    free(place);
    return owner;
}

static int note_odd(int first, int kind, int descriptor, PyObject *client, PyObject *server,
                    PyObject *request, PyObject *before, double started, const char *data,
                    Py_ssize_t size) {
    PyObject *item = Py_BuildValue("(iiOOOOdy#)", kind, descriptor, client, server, request, before,
                                   started, data == NULL ? "" : data, size);
    if (item == NULL) return 0;
    int failed = first ? PyList_Insert(odd, 0, item) : PyList_Append(odd, item);
    Py_DECREF(item);
    return !failed;
}

static PyObject *request_of(Place *place) {
    return PyBytes_FromStringAndSize(place->request, place->touched ? place->size : 0);
}

static PyObject *before_of(Place *place) {
    return PyBytes_FromStringAndSize(place->before, place->before_size);
}

/* Whether the request for this server was not sent yet, and won't be. */
static int withdraw(int server_at) {
    if (!places[server_at]->unsent) return 0;
    for (int at = 0; at < outgoing_count; at++)
        if (!outgoing[at].is_client && outgoing[at].descriptor == server_at)
            outgoing[at].descriptor = -1;
    return 1;
}

/* A connection leaves, and the other end of what is under way with it. `kind` is ASKS, or UNSENT
 * where `size` bytes of the request have been sent. */
static int dismiss_one(int descriptor, int kind, const char *data, Py_ssize_t size) {
    Place *place = places[descriptor];
    int client_at = place->role == CLIENT ? descriptor : place->peer;
    int server_at = place->role == CLIENT ? place->peer : descriptor;
    PyObject *client = Py_NewRef(Py_None), *server = Py_NewRef(Py_None), *request, *before;
    double started = 0.0;
    char rewritten[2 * BLOCK];
    Py_ssize_t whole = 0;
    int done = 0, waits = client_at >= 0 && places[client_at]->since != 0.0;
    if (server_at >= 0 && kind == ASKS) {
        kind = client_at < 0 ? RETURNS : RESUMES;
        if (withdraw(server_at)) kind = UNSENT, size = 0;
    }
    if (client_at >= 0) {
        Place *asks = places[client_at];
        started = asks->started;
        request = request_of(asks);
        before = before_of(asks);
        if (kind == UNSENT && asks->statement != NULL)
            whole = renamed(asks->statement, asks->request, asks->size, rewritten,
                            sizeof(rewritten));
        Py_SETREF(client, vacate(client_at));
    } else {
        request = before_of(places[server_at]);
        before = PyBytes_FromStringAndSize("", 0);
    }
    if (server_at >= 0) Py_SETREF(server, vacate(server_at));
    if (request != NULL && before != NULL && whole >= 0) {
        if (kind == UNSENT) {
            data = whole ? rewritten : PyBytes_AS_STRING(request);
            whole = whole ? whole : PyBytes_GET_SIZE(request);
            data += size;
            size = whole - size;
        } else if (waits) {
            data = PyBytes_AS_STRING(request);
            size = PyBytes_GET_SIZE(request);
        }
        int about = kind == UNSENT || kind == RETURNS ? server_at : client_at;
        done = note_odd(0, kind, about, client, server, request, before, started, data, size);
    }
    Py_XDECREF(request);
    Py_XDECREF(before);
    Py_DECREF(client);
    Py_DECREF(server);
    return done;
}

static int dismiss(int descriptor, int kind, const char *data, Py_ssize_t size) {
    int number = places[descriptor]->group;
    if (!dismiss_one(descriptor, kind, data, size)) return 0;
    Group *group = &groups[number];
    while (!group->servers && group->queue_count) /* none will come by itself */
        if (!dismiss_one(group->queue[0], ASKS, NULL, 0)) return 0;
    return 1;
}

/* The round */

static int append_number(PyObject *list, long long value) {
    PyObject *number = PyLong_FromLongLong(value);
    if (number == NULL) return 0;
    int failed = PyList_Append(list, number);
    Py_DECREF(number);
    return !failed;
}

static int leave_to_python(PyObject **others, int descriptor, uint32_t events) {
    if (*others == NULL && (*others = PyList_New(0)) == NULL) return 0;
    return append_number(*others, (long long)descriptor << 8 | (events & 0xff));
}

static int send_one(Outgoing *one) {
    if (one->descriptor < 0) return 1;
    if (!one->is_client) places[one->descriptor]->unsent = 0;
    ssize_t sent = send(one->descriptor, one->data, (size_t)one->size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent == one->size) return 1;
    if (sent < 0) sent = 0; /* what is wrong the long way finds as well */
    if (!one->is_client) return dismiss(one->descriptor, UNSENT, NULL, sent);
    PyObject *nothing = PyBytes_FromStringAndSize("", 0);
    int done = nothing != NULL && note_odd(1, REST, one->descriptor, Py_None, Py_None, nothing,
                                           nothing, 0.0, one->data + sent, one->size - sent);
    Py_XDECREF(nothing);
    return done;
}

static int send_all(void) {
    int done = 1;
    for (int at = 0; at < outgoing_count; at++) done = send_one(&outgoing[at]) && done;
    outgoing_count = 0;
    arena_used = 0;
    return done;
}

static void send_later(int descriptor, int is_client, const char *data, Py_ssize_t size) {
    Outgoing *one = &outgoing[outgoing_count++];
    one->descriptor = descriptor;
    one->is_client = is_client;
    one->data = data;
    one->size = size;
}

/* What is ready of a connection, received into the arena: so many bytes, or 0 if there is nothing
 * more to do, or -1 for an error. One that is not `due` to send anything, and whatever is not simply
 * bytes, leaves: the long way finds what it is. */
static Py_ssize_t take_in(int descriptor, int due, uint32_t events, PyObject **others,
                          char **data) {
    if (due && !(events & ~(uint32_t)EPOLLIN)) {
        if (ARENA - arena_used < BLOCK && !send_all()) return -1;
        *data = arena + arena_used;
        ssize_t got = recv(descriptor, *data, BLOCK, MSG_DONTWAIT);
        if (got > 0) return got;
        if (got < 0 && would_block()) return 0;
    }
    return dismiss(descriptor, ASKS, NULL, 0) && leave_to_python(others, descriptor, events) ? 0
                                                                                             : -1;
}

static int keep(char **kept, Py_ssize_t *kept_size, Py_ssize_t *kept_room, const char *data,
                Py_ssize_t size) {
    if (*kept_room < size) {
        Py_ssize_t room = size < 256 ? 256 : size;
        char *grown = realloc(*kept, (size_t)room);
        if (grown == NULL) return 0;
        *kept = grown;
        *kept_room = room;
    }
    memcpy(*kept, data, (size_t)size);
    *kept_size = size;
    return 1;
}

static void swap(Place *place) {
    char *request = place->request;
    Py_ssize_t size = place->size, room = place->room;
    place->request = place->before;
    place->size = place->before_size;
    place->room = place->before_room;
    place->before = request;
    place->before_size = size;
    place->before_room = room;
}

static int keep_request(Place *place, const char *data, Py_ssize_t size) {
    if (data[0] != 'B')
        place->before_size = 0;
    else if (place->touched && place->request[0] != 'B')
        swap(place);
    place->touched = 1;
    return keep(&place->request, &place->size, &place->room, data, size);
}

/* Send the request of a client to a server of its group that is free. */
static int begin(Group *group, int client_at, int server_at, double now) {
    Place *client = places[client_at], *server = places[server_at];
    const char *data = client->request;
    Py_ssize_t size = client->size;
    if (client->statement != NULL) {
        if (ARENA - arena_used < 2 * BLOCK && !send_all()) return 0;
        char *out = arena + arena_used;
        size = renamed(client->statement, client->request, client->size, out, 2 * BLOCK);
        if (size < 0) return 0;
        data = out;
        arena_used += size;
    } else if (!keep(&server->before, &server->before_size, &server->before_room, data,
                     data[0] == 'P' ? size : 1)) {
        PyErr_NoMemory();
        return 0;
    }
    if (client->since) {
        group->waits += now - client->since;
        client->since = 0.0;
    }
    client->peer = server_at;
    server->peer = client_at;
    server->unsent = 1;
    send_later(server_at, 0, data, size);
    return 1;
}

static int enqueue(Group *group, int client_at, double now) {
    if (group->queue_count == group->queue_room) {
        int room = 2 * group->queue_room + 16;
        int *grown = realloc(group->queue, (size_t)room * sizeof(int));
        if (grown == NULL) {
            PyErr_NoMemory();
            return 0;
        }
        group->queue = grown;
        group->queue_room = room;
    }
    group->queue[group->queue_count++] = client_at;
    places[client_at]->since = now;
    return 1;
}

/* A server of the group is free. */
static int go_on(Group *group, int server_at, double now) {
    group->owed = group->wanted && !group->owed;
    while (group->queue_count && !group->owed) {
        int client_at = group->queue[0];
        int fits = has(places[server_at], places[client_at]->statement);
        if (fits < 0) return 0;
        if (!fits) { /* it has to be prepared there first */
            if (!dismiss_one(client_at, ASKS, NULL, 0)) return 0;
            continue;
        }
        take_out(group->queue, &group->queue_count, client_at);
        return begin(group, client_at, server_at, now);
    }
    if (group->wanted) return dismiss(server_at, ASKS, NULL, 0);
    group->idle[group->idle_count++] = server_at;
    return 1;
}

/* Takes the idle server that was used last of those that the request can be sent to; -1: there is
 * none, -2: an error. */
static int take_idle(Group *group, PyObject *statement) {
    for (int at = group->idle_count; at-- > 0;) {
        int server_at = group->idle[at];
        int fits = has(places[server_at], statement);
        if (fits < 0) return -2;
        if (!fits) continue;
        memmove(&group->idle[at], &group->idle[at + 1],
                (size_t)(group->idle_count - at - 1) * sizeof(int));
        group->idle_count--;
        return server_at;
    }
    return -1;
}

/* It is the next group's turn to serve this client, which has nothing under way. */
static Group *next_of(Place *place) {
    Group *group = &groups[place->group];
    if (group->next == place->group) return group;
    group->members--;
    place->group = group->next;
    group = &groups[place->group];
    group->members++;
    return group;
}

/* The place of a request in the doorkeeper's table, and what belongs there; NULL on an error. */
static int64_t *door_place(Place *client, const char *data, Py_ssize_t size, int64_t *value) {
    char rewritten[2 * BLOCK];
    if (client->statement != NULL) {
        size = renamed(client->statement, data, size, rewritten, sizeof(rewritten));
        if (size < 0) return NULL;
        data = rewritten;
    }
    *value = (int64_t)hash_of(data, size);
    size_t places = (size_t)door.len / sizeof(int64_t);
    return (int64_t *)door.buf + ((uint64_t)*value & (places - 1));
}

static int client_ready(Place *place, int descriptor, uint32_t events, PyObject **others,
                        double now) {
    char *data;
    Py_ssize_t got = take_in(descriptor, place->peer < 0 && !place->since, events, others, &data);
    if (got <= 0) return got == 0;
    Group *group = next_of(place);
    int may_have = group->idle_count || (group->crowded && group->servers);
    int slot = may_have && got < BLOCK ? recognised(group, place, data, got) : -1;
    int64_t value = 0, *seen = NULL;
    if (slot >= 0 && slots[slot].first_only) {
        if ((seen = door_place(place, data, got, &value)) == NULL) return 0;
        if (*seen == value) slot = -1;
    }
    int server_at = slot < 0 || !group->idle_count ? -1 : take_idle(group, place->statement);
    if (slot < -1 || server_at < -1) return 0;
    if (slot < 0 || (server_at < 0 && group->idle_count))
        return dismiss(descriptor, ASKS, data, got);
    if (seen != NULL) *seen = value;
    if (!keep_request(place, data, got)) return PyErr_NoMemory() != NULL;
    place->slot = slot;
    place->started = now;
    return server_at < 0 ? enqueue(group, descriptor, now)
                         : begin(group, descriptor, server_at, now);
}

static void count(Group *group, Place *client, Py_ssize_t answer, double now) {
    Slot *slot = &slots[client->slot];
    double seconds = now - client->started;
    int bucket = 0;
    while (bucket < bounds_count && seconds > bounds[bucket]) bucket++;
    slot->count++;
    slot->total += seconds;
    slot->buckets[bucket]++;
    if (client->request[0] == 'Q')
        group->simple++;
    else if (client->request[0] == 'P')
        group->parsed++;
    else
        group->bound++;
    group->bytes_in += client->size;
    group->bytes_out += answer;
}

static int server_ready(Place *place, int descriptor, uint32_t events, PyObject **others,
                        double now) {
    Group *group = &groups[place->group];
    char *data;
    Py_ssize_t got = take_in(descriptor, place->peer >= 0 && !place->unsent, events, others, &data);
    if (got <= 0) return got == 0;
    if (got == BLOCK || status_of((unsigned char *)data, got, 0, noteworthy) != 'I')
        return dismiss(descriptor, ASKS, data, got);
    Place *client = places[place->peer];
    arena_used += got;
    send_later(place->peer, 1, data, got);
    count(group, client, got, now);
    client->peer = place->peer = -1;
    return go_on(group, descriptor, now);
}

static int serve(int descriptor, uint32_t events, PyObject **others, double now) {
    Place *place = place_of(descriptor);
    if (place == NULL) return leave_to_python(others, descriptor, events);
    if (place->role == CLIENT) return client_ready(place, descriptor, events, others, now);
    return server_ready(place, descriptor, events, others, now);
}

static PyObject *turn(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    if (!arguments_are(count, 2)) return NULL;
    int set = PyObject_AsFileDescriptor(arguments[0]);
    if (set < 0) return NULL;
    long limit = PyLong_AsLong(arguments[1]);
    if (limit == -1 && PyErr_Occurred()) return NULL;
    if (limit < 1 || limit > MOST_EVENTS) limit = MOST_EVENTS;
    PyObject *others = NULL;
    for (int round = 0; round < ROUNDS; round++) {
        struct epoll_event events[MOST_EVENTS];
        int found = epoll_wait(set, events, (int)limit, 0);
        if (found < 0) {
            if (errno != EINTR) return PyErr_SetFromErrno(PyExc_OSError);
            found = 0;
        }
        double now = monotonic();
        int failed = 0;
        for (int at = 0; at < found && !failed; at++)
            failed = !serve(events[at].data.fd, events[at].events, &others, now);
        if (!send_all() || failed) {
            Py_XDECREF(others);
            return NULL;
        }
        if (others != NULL || PyList_GET_SIZE(odd)) break;
        if (found < FEW) Py_RETURN_NONE;
    }
    if (others == NULL && PyList_GET_SIZE(odd)) others = PyList_New(0);
    if (others == NULL && !PyErr_Occurred()) Py_RETURN_NONE;
    return others;
}

/* What Python asks for */

static int take_int(PyObject *object, int *number) {
    long value = PyLong_AsLong(object);
    if (value == -1 && PyErr_Occurred()) return 0;
    *number = (int)value;
    return 1;
}

static Group *take_group(PyObject *object) {
    int number;
    if (!take_int(object, &number)) return NULL;
    if (number >= 0 && number < groups_count) return &groups[number];
    PyErr_SetString(PyExc_ValueError, "there is no such group");
    return NULL;
}

static PyObject *configure(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    if (!arguments_are(count, 3)) return NULL;
    if (!PyTuple_Check(arguments[0]) || PyTuple_GET_SIZE(arguments[0]) > MOST_BOUNDS ||
        !PyBytes_CheckExact(arguments[1]) || PyBytes_GET_SIZE(arguments[1]) != KINDS) {
        PyErr_SetString(PyExc_TypeError, "a tuple of bounds and a table of 256 bytes expected");
        return NULL;
    }
    bounds_count = (int)PyTuple_GET_SIZE(arguments[0]);
    for (int at = 0; at < bounds_count; at++)
        bounds[at] = PyFloat_AsDouble(PyTuple_GET_ITEM(arguments[0], at));
    if (PyErr_Occurred()) return NULL;
    memcpy(noteworthy, PyBytes_AS_STRING(arguments[1]), KINDS);
    Py_XSETREF(stale, Py_NewRef(arguments[2]));
    Py_RETURN_NONE;
}

static PyObject *open_group(PyObject *module, PyObject *ignored) {
    (void)module, (void)ignored;
    for (int at = 0; at < groups_count; at++) {
        if (!groups[at].ended) continue;
        free(groups[at].idle);
        free(groups[at].queue);
        memset(&groups[at], 0, sizeof(Group));
        groups[at].next = at;
        return PyLong_FromLong(at);
    }
    Group *grown = realloc(groups, (size_t)(groups_count + 1) * sizeof(Group));
    if (grown == NULL) return PyErr_NoMemory();
    groups = grown;
    memset(&groups[groups_count], 0, sizeof(Group));
    groups[groups_count].next = groups_count;
    return PyLong_FromLong(groups_count++);
}

static PyObject *link_group(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    if (!arguments_are(count, 2)) return NULL;
    Group *group = take_group(arguments[0]), *next = take_group(arguments[1]);
    if (group == NULL || next == NULL) return NULL;
    group->next = (int)(next - groups);
    Py_RETURN_NONE;
}

static PyObject *close_group(PyObject *module, PyObject *number) {
    (void)module;
    Group *group = take_group(number);
    if (group == NULL) return NULL;
    forget_texts(group);
    group->closed = 1;
    group->next = (int)(group - groups); /* the next may be another's before this one ends */
    Py_RETURN_NONE;
}

static PyObject *end_group(PyObject *module, PyObject *number) {
    (void)module;
    Group *group = take_group(number);
    if (group == NULL) return NULL;
    if (group->members || !group->closed) {
        PyErr_SetString(PyExc_ValueError, "the group is in use");
        return NULL;
    }
    group->ended = 1;
    Py_RETURN_NONE;
}

static PyObject *forget(PyObject *module, PyObject *number) {
    (void)module;
    Group *group = take_group(number);
    if (group == NULL) return NULL;
    forget_texts(group);
    Py_RETURN_NONE;
}

static PyObject *members(PyObject *module, PyObject *number) {
    (void)module;
    Group *group = take_group(number);
    return group == NULL ? NULL : PyLong_FromLong(group->members);
}

static PyObject *watch(PyObject *module, PyObject *memory) {
    (void)module;
    Py_buffer found;
    if (door.buf != NULL && door.obj == memory) Py_RETURN_NONE;
    if (PyObject_GetBuffer(memory, &found, PyBUF_WRITABLE) < 0) return NULL;
    if (found.len < (Py_ssize_t)sizeof(int64_t) || (found.len & (found.len - 1))) {
        PyBuffer_Release(&found);
        PyErr_SetString(PyExc_ValueError, "the table's size must be a power of two");
        return NULL;
    }
    if (door.buf != NULL) PyBuffer_Release(&door);
    door = found;
    Py_RETURN_NONE;
}

static PyObject *open_slot(PyObject *module, PyObject *flag) {
    (void)module;
    int first_only = PyObject_IsTrue(flag);
    if (first_only < 0) return NULL;
    if (first_only && door.buf == NULL) {
        PyErr_SetString(PyExc_ValueError, "there is no doorkeeper's table");
        return NULL;
    }
    Slot *grown = realloc(slots, (size_t)(slots_count + 1) * sizeof(Slot));
    if (grown == NULL) return PyErr_NoMemory();
    slots = grown;
    memset(&slots[slots_count], 0, sizeof(Slot));
    slots[slots_count].first_only = first_only;
    return PyLong_FromLong(slots_count++);
}

static PyObject *learn(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    if (count != 4 || !PyBytes_CheckExact(arguments[1])) {
        PyErr_SetString(PyExc_TypeError, "a group, a request, a slot and a flag expected");
        return NULL;
    }
    Group *group = take_group(arguments[0]);
    int slot;
    if (group == NULL || !take_int(arguments[2], &slot)) return NULL;
    if (slot < 0 || slot >= slots_count) {
        PyErr_SetString(PyExc_ValueError, "there is no such slot");
        return NULL;
    }
    int exact = PyObject_IsTrue(arguments[3]);
    if (exact < 0) return NULL;
    char key[BLOCK];
    Py_ssize_t length = key_of(PyBytes_AS_STRING(arguments[1]), PyBytes_GET_SIZE(arguments[1]),
                               exact, key);
    if (!length || group->closed) Py_RETURN_FALSE;
    if (group->texts_count >= MOST_TEXTS) forget_texts(group);
    if (2 * (group->texts_count + 1) > group->texts_room && !grow_texts(group))
        return PyErr_NoMemory();
    Py_hash_t hash = hash_of(key, length);
    Text *text = text_at(group, key, length, hash);
    if (text->key == NULL) {
        text->key = malloc((size_t)length);
        if (text->key == NULL) return PyErr_NoMemory();
        memcpy(text->key, key, (size_t)length);
        text->hash = hash;
        text->size = length;
        group->texts_count++;
    }
    text->slot = slot;
    Py_RETURN_TRUE;
}

static Place *new_place(int descriptor, PyObject *owner, int role, int group,
                        PyObject *statements) {
    if (!PyDict_Check(statements)) {
        PyErr_SetString(PyExc_TypeError, "statements are a dictionary");
        return NULL;
    }
    if (descriptor < 0 || place_of(descriptor) != NULL) {
        PyErr_SetString(PyExc_ValueError, "the descriptor has a place already, or is none");
        return NULL;
    }
    if (descriptor >= places_room) {
        int room = descriptor + 1 > 2 * places_room ? descriptor + 1 : 2 * places_room;
        Place **grown = realloc(places, (size_t)room * sizeof(Place *));
        if (grown == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        memset(grown + places_room, 0, (size_t)(room - places_room) * sizeof(Place *));
        places = grown;
        places_room = room;
    }
    Place *place = calloc(1, sizeof(Place));
    if (place == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    place->owner = Py_NewRef(owner);
    place->role = role;
    place->group = group;
    place->peer = -1;
    place->statements = Py_NewRef(statements);
    groups[group].members++;
    return places[descriptor] = place;
}

/* The descriptor and the group among the arguments, of which the owner is the second. */
static Group *take_place(PyObject *const *arguments, int *descriptor) {
    Group *group = take_group(arguments[2]);
    return group == NULL || !take_int(arguments[0], descriptor) ? NULL : group;
}

static PyObject *add_client(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    int descriptor;
    if (!arguments_are(count, 4)) return NULL;
    Group *group = take_place(arguments, &descriptor);
    if (group == NULL) return NULL;
    if (new_place(descriptor, arguments[1], CLIENT, (int)(group - groups), arguments[3]) == NULL)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *add_waiting(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    int descriptor;
    if (count != 6 || !PyBytes_CheckExact(arguments[4])) {
        PyErr_SetString(PyExc_TypeError, "a descriptor, its owner, a group, its statements, a "
                                         "request and a time expected");
        return NULL;
    }
    Group *group = take_place(arguments, &descriptor);
    double started = PyFloat_AsDouble(arguments[5]);
    if (group == NULL || PyErr_Occurred()) return NULL;
    const char *request = PyBytes_AS_STRING(arguments[4]);
    Py_ssize_t size = PyBytes_GET_SIZE(arguments[4]);
    Place *place = new_place(descriptor, arguments[1], CLIENT, (int)(group - groups), arguments[3]);
    if (place == NULL) return NULL;
    int slot = size < BLOCK ? recognised(group, place, request, size) : -1;
    if (slot < 0) {
        Py_DECREF(vacate(descriptor));
        if (slot < -1) return NULL;
        Py_RETURN_FALSE;
    }
    place->slot = slot;
    place->started = started;
    group->crowded = 1;
    if (!keep_request(place, request, size) || !enqueue(group, descriptor, monotonic())) {
        Py_DECREF(vacate(descriptor));
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    Py_RETURN_TRUE;
}

static PyObject *add_server(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    int descriptor;
    if (!arguments_are(count, 5)) return NULL;
    int wanted = PyObject_IsTrue(arguments[4]);
    Group *group = take_place(arguments, &descriptor);
    if (group == NULL || wanted < 0) return NULL;
    if (group->servers >= group->idle_room) {
        int room = 2 * group->servers + 8;
        int *grown = realloc(group->idle, (size_t)room * sizeof(int));
        if (grown == NULL) return PyErr_NoMemory();
        group->idle = grown;
        group->idle_room = room;
    }
    if (new_place(descriptor, arguments[1], SERVER, (int)(group - groups), arguments[3]) == NULL)
        return NULL;
    group->servers++;
    group->wanted = wanted;
    group->owed = wanted; /* so that it begins with who waits here */
    if (!go_on(group, descriptor, monotonic()) || !send_all()) return NULL;
    return PyBool_FromLong(PyList_GET_SIZE(odd) > 0);
}

/* An idle server leaves: its owner, and the request as for RETURNS. */
static PyObject *taken(int descriptor) {
    PyObject *request = before_of(places[descriptor]);
    return request == NULL ? NULL : Py_BuildValue("(NN)", vacate(descriptor), request);
}

static PyObject *recall(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    if (!arguments_are(count, 2)) return NULL;
    Group *group = take_group(arguments[0]);
    int wanted = PyObject_IsTrue(arguments[1]);
    if (group == NULL || wanted < 0) return NULL;
    if (wanted) group->wanted = 1;
    if (!group->idle_count) Py_RETURN_NONE;
    return taken(group->idle[0]); /* the longest unused: the pool keeps them in that order */
}

static PyObject *take_last(PyObject *module, PyObject *number) {
    (void)module;
    Group *group = take_group(number);
    if (group == NULL) return NULL;
    if (!group->idle_count) Py_RETURN_NONE;
    return taken(group->idle[group->idle_count - 1]);
}

static PyObject *uncrowd(PyObject *module, PyObject *number) {
    (void)module;
    Group *group = take_group(number);
    if (group == NULL) return NULL;
    group->crowded = 0;
    PyObject *found = PyList_New(0);
    for (int at = 0; at < group->queue_count && found != NULL; at++)
        if (!append_number(found, group->queue[at])) Py_CLEAR(found);
    return found;
}

static PyObject *drop(PyObject *module, PyObject *number) {
    (void)module;
    int descriptor;
    if (!take_int(number, &descriptor)) return NULL;
    if (place_of(descriptor) == NULL) Py_RETURN_FALSE;
    if (!dismiss(descriptor, ASKS, NULL, 0)) return NULL;
    Py_RETURN_TRUE;
}

static PyObject *take_odd(PyObject *module, PyObject *ignored) {
    (void)module, (void)ignored;
    PyObject *fresh = PyList_New(0);
    if (fresh == NULL) return NULL;
    PyObject *taken = odd;
    odd = fresh;
    return taken;
}

static PyObject *under_way(PyObject *module, PyObject *time) {
    (void)module;
    double until = PyFloat_AsDouble(time);
    if (PyErr_Occurred()) return NULL;
    PyObject *found = PyList_New(0);
    for (int at = 0; at < places_room && found != NULL; at++) {
        Place *place = places[at];
        if (place == NULL || place->role != CLIENT || place->peer < 0 || place->started > until)
            continue;
        if (!append_number(found, at)) Py_CLEAR(found);
    }
    for (int one = 0; one < groups_count; one++) {
        Group *group = &groups[one];
        for (int at = 0; at < group->queue_count && found != NULL; at++)
            if (places[group->queue[at]]->started <= until &&
                !append_number(found, group->queue[at]))
                Py_CLEAR(found);
    }
    return found;
}

static PyObject *touched(PyObject *module, PyObject *ignored) {
    (void)module, (void)ignored;
    PyObject *found = PyList_New(0);
    for (int at = 0; at < places_room && found != NULL; at++) {
        Place *place = places[at];
        if (place == NULL || place->role != CLIENT || place->touched != 1) continue;
        place->touched = 2; /* its request is still the last */
        PyObject *item = Py_BuildValue("(Od)", place->owner, place->started);
        if (item == NULL || PyList_Append(found, item) < 0) Py_CLEAR(found);
        Py_XDECREF(item);
    }
    return found;
}

static PyObject *collected_slot(int at) {
    Slot *slot = &slots[at];
    PyObject *buckets = PyTuple_New(bounds_count + 1);
    for (int one = 0; one <= bounds_count && buckets != NULL; one++) {
        PyObject *number = PyLong_FromLongLong(slot->buckets[one]);
        if (number == NULL)
            Py_CLEAR(buckets);
        else
            PyTuple_SET_ITEM(buckets, one, number);
    }
    if (buckets == NULL) return NULL;
    PyObject *item = Py_BuildValue("(iLdN)", at, slot->count, slot->total, buckets);
    slot->count = 0;
    slot->total = 0.0;
    memset(slot->buckets, 0, sizeof(slot->buckets));
    return item;
}

static PyObject *collect(PyObject *module, PyObject *ignored) {
    (void)module, (void)ignored;
    PyObject *of_groups = PyList_New(0), *of_slots = PyList_New(0);
    int failed = of_groups == NULL || of_slots == NULL;
    for (int at = 0; at < groups_count && !failed; at++) {
        Group *group = &groups[at];
        if (!group->simple && !group->parsed && !group->bound) continue;
        PyObject *item = Py_BuildValue("(iLLLLLd)", at, group->simple, group->parsed, group->bound,
                                       group->bytes_in, group->bytes_out, group->waits);
        failed = item == NULL || PyList_Append(of_groups, item) < 0;
        Py_XDECREF(item);
        group->simple = group->parsed = group->bound = 0;
        group->bytes_in = group->bytes_out = 0;
        group->waits = 0.0;
    }
    for (int at = 0; at < slots_count && !failed; at++) {
        if (!slots[at].count) continue;
        PyObject *item = collected_slot(at);
        failed = item == NULL || PyList_Append(of_slots, item) < 0;
        Py_XDECREF(item);
    }
    if (!failed) return Py_BuildValue("(NN)", of_groups, of_slots);
    Py_XDECREF(of_groups);
    Py_XDECREF(of_slots);
    return NULL;
}

#define FAST(function) (PyCFunction)(void (*)(void))function, METH_FASTCALL, NULL

static PyMethodDef functions[] = {
    {"configure", FAST(configure)},
    {"turn", FAST(turn)},
    {"open_group", open_group, METH_NOARGS, NULL},
    {"link_group", FAST(link_group)},
    {"close_group", close_group, METH_O, NULL},
    {"end_group", end_group, METH_O, NULL},
    {"forget", forget, METH_O, NULL},
    {"members", members, METH_O, NULL},
    {"watch", watch, METH_O, NULL},
    {"open_slot", open_slot, METH_O, NULL},
    {"learn", FAST(learn)},
    {"add_client", FAST(add_client)},
    {"add_waiting", FAST(add_waiting)},
    {"add_server", FAST(add_server)},
    {"recall", FAST(recall)},
    {"take_last", take_last, METH_O, NULL},
    {"uncrowd", uncrowd, METH_O, NULL},
    {"drop", drop, METH_O, NULL},
    {"take_odd", take_odd, METH_NOARGS, NULL},
    {"under_way", under_way, METH_O, NULL},
    {"touched", touched, METH_NOARGS, NULL},
    {"collect", collect, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

/* One phase: what it holds is of the process, as the descriptors are. */
static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_fast_path", NULL, -1, functions, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__fast_path(void) {
    learn_characters();
    odd = PyList_New(0);
    name_name = PyUnicode_InternFromString("name");
    description_name = PyUnicode_InternFromString("description");
    if (odd == NULL || name_name == NULL || description_name == NULL) return NULL;
    return PyModule_Create(&definition);
}
