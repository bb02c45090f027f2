/* Loops over messages: `proxy/wire/scan.py` says what each does and holds the same in Python. */
#include "../_arguments.h"
#include "_messages.h"

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
    Py_ssize_t size, kinds, position;
    if (!arguments_are(count, 3) || !take_bytes(arguments[0], &data, &size) ||
        !take_position(arguments[1], &position) || !take_bytes(arguments[2], &table, &kinds))
        return NULL;
    if (kinds != KINDS) {
        PyErr_SetString(PyExc_ValueError, "the table must have 256 entries");
        return NULL;
    }
    return PyLong_FromLong(status_of(data, size, position, table));
}

static PyObject *execution(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
    (void)module;
    const unsigned char *data;
    Py_ssize_t size, position;
    Execution one;
    if (!arguments_are(count, 2) || !take_bytes(arguments[0], &data, &size) ||
        !take_position(arguments[1], &position))
        return NULL;
    if (!find_execution(data, size, position, &one)) Py_RETURN_NONE;
    const char *bytes = (const char *)data;
    PyObject *content = Py_None;
    if (one.parses)
        content = PyBytes_FromStringAndSize(bytes + one.content, one.content_end - one.content);
    else
        Py_INCREF(content);
    PyObject *found = PyTuple_New(5);
    PyObject *items[5] = {
        PyLong_FromSsize_t(one.end),
        content,
        PyBytes_FromStringAndSize(bytes + one.name, one.name_end - one.name),
        PyBytes_FromStringAndSize(bytes + one.name_end + 1, one.bind_end - one.name_end - 1),
        PyLong_FromLong(one.describes),
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
    rename_bind(data, start, end, old, (const char *)name, length,
                (unsigned char *)PyBytes_AS_STRING(result));
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
