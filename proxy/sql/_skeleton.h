/* A text's whole numbers taken out, into a buffer: what `skeleton.py` says. */
#ifndef PENSTOCK_SKELETON_H
#define PENSTOCK_SKELETON_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

#define LONGEST 4096

enum { OTHER = 0, PART = 1, DIGIT = 2, REFUSED = 4 };

static unsigned char character_kinds[256];

/* To be called once, before all else. */
static inline void learn_characters(void) {
    for (int one = 0; one < 256; one++) {
        if (one == 0 || one > 127)
            character_kinds[one] = REFUSED;
        else if (one >= '0' && one <= '9')
            character_kinds[one] = DIGIT | PART;
        else if ((one >= 'a' && one <= 'z') || (one >= 'A' && one <= 'Z') ||
                 strchr("_$.\"'", one) != NULL)
            character_kinds[one] = PART;
    }
}

/* The skeleton's length in `out`, which has room for LONGEST bytes; -1 where it is the text. */
static inline Py_ssize_t bones_of(const unsigned char *data, Py_ssize_t size, char *out) {
    Py_ssize_t length = 0, at = 0;
    if (size > LONGEST) return -1;
    int previous = OTHER, found = 0;
    while (at < size) {
        unsigned char one = data[at];
        int kind = character_kinds[one];
        if (kind & REFUSED) return -1;
        if (!(kind & DIGIT) || previous != OTHER) {
            out[length++] = (char)one;
            previous = kind;
            at++;
            continue;
        }
        Py_ssize_t end = at + 1;
        while (end < size && character_kinds[data[end]] & DIGIT) end++;
        int alone = end == size || character_kinds[data[end]] == OTHER ||
                    character_kinds[data[end]] & REFUSED;
        if (alone && (one != '0' || end == at + 1)) {
            out[length++] = 0;
            found = 1;
        } else {
            memcpy(out + length, data + at, (size_t)(end - at));
            length += end - at;
        }
        previous = DIGIT;
        at = end;
    }
    return found ? length : -1;
}

#endif
