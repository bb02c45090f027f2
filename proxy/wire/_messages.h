/* Where messages begin and end: shared by what loops over them. Source of the layouts: PostgreSQL
 * documentation, "Message Formats". */
#ifndef PENSTOCK_MESSAGES_H
#define PENSTOCK_MESSAGES_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define HEADER 5
#define KINDS 256

static inline uint32_t length_at(const unsigned char *data, Py_ssize_t position) {
    return (uint32_t)data[position + 1] << 24 | (uint32_t)data[position + 2] << 16 |
           (uint32_t)data[position + 3] << 8 | (uint32_t)data[position + 4];
}

/* A Bind of the unnamed portal, with what follows it up to `end`, with another name for the one of
 * `old` bytes, into `out`, which must have room for it; its length. */
static inline Py_ssize_t rename_bind(const unsigned char *data, Py_ssize_t start, Py_ssize_t end,
                                     Py_ssize_t old, const char *name, Py_ssize_t length,
                                     unsigned char *out) {
    uint32_t bind = length_at(data, start) - (uint32_t)old + (uint32_t)length;
    out[0] = 'B';
    out[1] = (unsigned char)(bind >> 24);
    out[2] = (unsigned char)(bind >> 16);
    out[3] = (unsigned char)(bind >> 8);
    out[4] = (unsigned char)bind;
    out[5] = 0;
    memcpy(out + 6, name, (size_t)length);
    memcpy(out + 6 + length, data + start + 6 + old, (size_t)(end - start - 6 - old));
    return end - start - old + length;
}

/* The end of a whole message of this type at `position`, or 0 if there is none. */
static inline Py_ssize_t end_of(const unsigned char *data, Py_ssize_t size, Py_ssize_t position,
                                unsigned char kind) {
    if (size - position < HEADER || data[position] != kind) return 0;
    uint32_t length = length_at(data, position);
    if (length < 4 || (uint64_t)length + 1 > (uint64_t)(size - position)) return 0;
    return position + 1 + (Py_ssize_t)length;
}

/* Past the whole messages on whose type's entry in the table is zero. */
static inline Py_ssize_t past(const unsigned char *data, Py_ssize_t size, Py_ssize_t position,
                              const unsigned char *table) {
    while (size - position >= HEADER && !table[data[position]]) {
        uint32_t length = length_at(data, position);
        if (length < 4 || (uint64_t)length + 1 > (uint64_t)(size - position)) break;
        position += 1 + (Py_ssize_t)length;
    }
    return position;
}

/* The transaction status of a ReadyForQuery that ends the data, or 0: see `scan.answered`. */
static inline int status_of(const unsigned char *data, Py_ssize_t size, Py_ssize_t position,
                            const unsigned char *table) {
    position = past(data, size, position, table);
    Py_ssize_t end = end_of(data, size, position, 'Z');
    return end == size && end - position == 6 ? data[position + 5] : 0;
}

/* The commonest batch: see `scan.execution`. The body of Parse is from `content` to `content_end`,
 * behind the statement's name; the name in Bind is from `name` to `name_end`. */
typedef struct {
    Py_ssize_t end, content, content_end, name, name_end, bind_end;
    int parses, describes;
} Execution;

static inline int find_execution(const unsigned char *data, Py_ssize_t size, Py_ssize_t position,
                                 Execution *found) {
    Py_ssize_t end, parse_end = 0;
    found->parses = position < size && data[position] == 'P';
    found->content = position + 6;
    if (found->parses) {
        parse_end = end_of(data, size, position, 'P');
        if (!parse_end || parse_end - position < 7 || data[position + 5] ||
            !memchr(data + position + 6, 0, (size_t)(parse_end - position - 6)))
            return 0;
        position = parse_end;
    }
    found->content_end = parse_end;
    Py_ssize_t bind_end = end_of(data, size, position, 'B');
    if (!bind_end || bind_end - position < 7 || data[position + 5]) return 0;
    found->name = position + 6;
    const unsigned char *zero = memchr(data + found->name, 0, (size_t)(bind_end - found->name));
    if (zero == NULL) return 0;
    found->name_end = zero - data;
    if (bind_end - found->name_end < 7 || (found->parses && found->name_end != found->name))
        return 0;
    found->bind_end = position = bind_end;
    found->describes = position < size && data[position] == 'D';
    if (found->describes) {
        end = end_of(data, size, position, 'D');
        if (end - position != 7 || data[position + 5] != 'P' || data[position + 6]) return 0;
        position = end;
    }
    end = end_of(data, size, position, 'E');
    if (end - position != 10 || data[position + 5] || data[position + 6] || data[position + 7] ||
        data[position + 8] || data[position + 9])
        return 0;
    position = end;
    end = end_of(data, size, position, 'S');
    if (end - position != 5) return 0;
    found->end = end;
    return 1;
}

#endif
