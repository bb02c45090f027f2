/* A text's whole numbers taken out: `proxy/sql/skeleton.py` says what this does and holds the same
 * in Python. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

#define LONGEST 4096

enum { OTHER = 0, PART = 1, DIGIT = 2, REFUSED = 4 };

static unsigned char kinds[256];

static PyObject *skeleton(PyObject *module, PyObject *text) {
    (void)module;
    if (!PyBytes_CheckExact(text)) {
        PyErr_SetString(PyExc_TypeError, "bytes expected");
        return NULL;
    }
    Py_ssize_t size = PyBytes_GET_SIZE(text), length = 0, at = 0;
    if (size > LONGEST) return Py_NewRef(text);
    const unsigned char *data = (const unsigned char *)PyBytes_AS_STRING(text);
    char out[LONGEST];
    int previous = OTHER, found = 0;
    while (at < size) {
        unsigned char one = data[at];
        int kind = kinds[one];
        if (kind & REFUSED) return Py_NewRef(text);
        if (!(kind & DIGIT) || previous != OTHER) {
            out[length++] = (char)one;
            previous = kind;
            at++;
            continue;
        }
        Py_ssize_t end = at + 1;
        while (end < size && kinds[data[end]] & DIGIT) end++;
        int alone = end == size || kinds[data[end]] == OTHER || kinds[data[end]] & REFUSED;
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
    return found ? PyBytes_FromStringAndSize(out, length) : Py_NewRef(text);
}

static PyMethodDef functions[] = {
    {"skeleton", skeleton, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_skeleton", NULL, 0, functions, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__skeleton(void) {
    for (int one = 0; one < 256; one++) {
        if (one == 0 || one > 127)
            kinds[one] = REFUSED;
        else if (one >= '0' && one <= '9')
            kinds[one] = DIGIT | PART;
        else if ((one >= 'a' && one <= 'z') || (one >= 'A' && one <= 'Z') ||
                 (one != 0 && strchr("_$.\"'", one) != NULL))
            kinds[one] = PART;
    }
    return PyModuleDef_Init(&definition);
}
