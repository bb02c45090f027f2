/* Included before each C file that mypyc makes. What leads to one of these calls is compiled for size
 * and laid aside: it is a third of the hot functions, which would fill the processor's caches. */
struct _object;
__attribute__((cold)) void CPy_AddTraceback(const char *, const char *, int, struct _object *);
__attribute__((cold)) void CPy_TypeErrorTraceback(const char *, const char *, int, struct _object *,
                                                  const char *, struct _object *);
__attribute__((cold)) void CPy_TypeError(const char *, struct _object *);
__attribute__((cold)) void CPy_AttributeError(const char *, const char *, const char *, const char *,
                                              int, struct _object *);
