/* Loops over messages: `proxy/wire/scan.py` says what each does and holds the same in Python. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define HEADER 5
#define KINDS 256

static uint32_t length_at(const unsigned char *data, Py_ssize_t position) {
    return (uint32_t)data[position + 1] << 24 | (uint32_t)data[position + 2] << 16 |
           (uint32_t)data[position + 3] << 8 | (uint32_t)data[position + 4];
}

/* The end of a whole message of this type at `position`, or 0 if there is none. */
static Py_ssize_t end_of(const unsigned char *data, Py_ssize_t size, Py_ssize_t position,
                         unsigned char kind) {
    if (size - position < HEADER || data[position] != kind) return 0;
    uint32_t length = length_at(data, position);
    if (length < 4 || (uint64_t)length + 1 > (uint64_t)(size - position)) return 0;
    return position + 1 + (Py_ssize_t)length;
}

/* Past the whole messages on whose type's entry in the table is zero. */
static Py_ssize_t past(const unsigned char *data, Py_ssize_t size, Py_ssize_t position,
                       const unsigned char *table) {
    while (size - position >= HEADER && !table[data[position]]) {
        uint32_t length = length_at(data, position);
        if (length < 4 || (uint64_t)length + 1 > (uint64_t)(size - position)) break;
        position += 1 + (Py_ssize_t)length;
    }
    return position;
}

static int take_bytes(PyObject *object, const unsigned char **data, Py_ssize_t *size) {
    if (!PyBytes_CheckExact(object)) {
        PyErr_SetString(PyExc_TypeError, "bytes expected");
        return 0;
    }
    *data = (const unsigned char *)PyBytes_AS_STRING(object);
    *size = PyBytes_GET_SIZE(object);
    return 1;
}

static int take_position(PyObject *object, Py_ssize_t *position) {
    *position = PyLong_AsSsize_t(object);
    if (*position >= 0) return 1;
    if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "a position is not negative");
    return 0;
}

static int arguments_are(Py_ssize_t count, Py_ssize_t wanted) {
    if (count == wanted) return 1;
    PyErr_Format(PyExc_TypeError, "%zd arguments expected, not %zd", wanted, count);
    return 0;
}

static PyObject *skip(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    const unsigned char *data, *table;
    Py_ssize_t size, kinds, position;
    if (!arguments_are(count, 3) || !take_bytes(arguments[0], &data, &size) ||
        !take_position(arguments[1], &position) || !take_bytes(arguments[2], &table, &kinds))
        return NULL;
    if (kinds != KINDS) {
        PyErr_SetString(PyExc_ValueError, "the table must have 256 entries");
        return NULL;
    }
    return PyLong_FromSsize_t(past(data, size, position, table));
}

static PyObject *answered(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    const unsigned char *data, *table;
    Py_ssize_t size, kinds, position, end = 0;
    if (!arguments_are(count, 3) || !take_bytes(arguments[0], &data, &size) ||
        !take_position(arguments[1], &position) || !take_bytes(arguments[2], &table, &kinds))
        return NULL;
    if (kinds != KINDS) {
        PyErr_SetString(PyExc_ValueError, "the table must have 256 entries");
        return NULL;
    }
    position = past(data, size, position, table);
    end = end_of(data, size, position, 'Z');
    return PyLong_FromLong(end == size && end - position == 6 ? data[position + 5] : 0);
}

static PyObject *execution(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    const unsigned char *data;
    Py_ssize_t size, position, end, parse_end = 0;
    if (!arguments_are(count, 2) || !take_bytes(arguments[0], &data, &size) ||
        !take_position(arguments[1], &position))
        return NULL;
    Py_ssize_t parse = position;
    int parses = position < size && data[position] == 'P';
    if (parses) {
        parse_end = end_of(data, size, position, 'P');
        if (!parse_end || parse_end - position < 7 || data[position + 5] ||
            !memchr(data + position + 6, 0, (size_t)(parse_end - position - 6)))
            Py_RETURN_NONE;
        position = parse_end;
    }
    Py_ssize_t bind = position;
    Py_ssize_t bind_end = end_of(data, size, bind, 'B');
    if (!bind_end || bind_end - bind < 7 || data[bind + 5]) Py_RETURN_NONE;
    Py_ssize_t name = bind + 6;
    const unsigned char *zero = memchr(data + name, 0, (size_t)(bind_end - name));
    if (zero == NULL) Py_RETURN_NONE;
    Py_ssize_t name_end = zero - data;
    if (bind_end - name_end < 7 || (parses && name_end != name)) Py_RETURN_NONE;
    position = bind_end;
    int describes = position < size && data[position] == 'D';
    if (describes) {
        end = end_of(data, size, position, 'D');
        if (end - position != 7 || data[position + 5] != 'P' || data[position + 6])
            Py_RETURN_NONE;
        position = end;
    }
    end = end_of(data, size, position, 'E');
    if (end - position != 10 || data[position + 5] || data[position + 6] || data[position + 7] ||
        data[position + 8] || data[position + 9])
        Py_RETURN_NONE;
    position = end;
    end = end_of(data, size, position, 'S');
    if (end - position != 5) Py_RETURN_NONE;
    PyObject *content = Py_None;
    if (parses)
        content = PyBytes_FromStringAndSize((const char *)data + parse + 6, parse_end - parse - 6);
    else
        Py_INCREF(content);
    PyObject *found = PyTuple_New(5);
    PyObject *items[5] = {
        PyLong_FromSsize_t(end),
        content,
        PyBytes_FromStringAndSize((const char *)data + name, name_end - name),
        PyBytes_FromStringAndSize((const char *)data + name_end + 1, bind_end - name_end - 1),
        PyLong_FromLong(describes),
    };
    int whole = found != NULL;
    for (int i = 0; i < 5; i++) whole = whole && items[i] != NULL;
    for (int i = 0; i < 5; i++) {
        if (whole)
            PyTuple_SET_ITEM(found, i, items[i]);
        else
            Py_XDECREF(items[i]);
    }
    if (!whole) Py_CLEAR(found);
    return found;
}

static PyObject *renamed(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    const unsigned char *data, *name;
    Py_ssize_t size, start, end, old, length;
    if (!arguments_are(count, 5) || !take_bytes(arguments[0], &data, &size) ||
        !take_position(arguments[1], &start) || !take_position(arguments[2], &end) ||
        !take_position(arguments[3], &old) || !take_bytes(arguments[4], &name, &length))
        return NULL;
    if (end > size || end - start < 6 + old) {
        PyErr_SetString(PyExc_ValueError, "there is no Bind with such a name");
        return NULL;
    }
    Py_ssize_t total = end - start - old + length;
    PyObject *result = PyBytes_FromStringAndSize(NULL, total);
    if (result == NULL) return NULL;
    unsigned char *out = (unsigned char *)PyBytes_AS_STRING(result);
    uint32_t bind = length_at(data, start) - (uint32_t)old + (uint32_t)length;
    out[0] = 'B';
    out[1] = (unsigned char)(bind >> 24);
    out[2] = (unsigned char)(bind >> 16);
    out[3] = (unsigned char)(bind >> 8);
    out[4] = (unsigned char)bind;
    out[5] = 0;
    memcpy(out + 6, name, (size_t)length);
    memcpy(out + 6 + length, data + start + 6 + old, (size_t)(end - start - 6 - old));
    return result;
}

static PyMethodDef functions[] = {
    {"skip", (PyCFunction)(void (*)(void))skip, METH_FASTCALL, NULL},
    {"answered", (PyCFunction)(void (*)(void))answered, METH_FASTCALL, NULL},
    {"execution", (PyCFunction)(void (*)(void))execution, METH_FASTCALL, NULL},
    {"renamed", (PyCFunction)(void (*)(void))renamed, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_scan", NULL, 0, functions, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__scan(void) { return PyModuleDef_Init(&definition); }
