"""What the shop keeps."""

from django.contrib.postgres.fields import ArrayField
from django.db import models


class Author(models.Model):  # type: ignore[misc]  # Django has no types
    """Who writes books."""

    name = models.CharField(max_length=100, unique=True)
    born = models.DateField(null=True)

    class Meta:
        app_label = "django_shop"
        db_table = "shop_author"

    def __str__(self) -> str:
        return str(self.name)


class Book(models.Model):  # type: ignore[misc]  # Django has no types
    """What authors write."""

    title = models.CharField(max_length=200)
    author = models.ForeignKey(Author, on_delete=models.CASCADE, related_name="books")
    price = models.DecimalField(max_digits=8, decimal_places=2, default=0)
    stock = models.IntegerField(default=0)
    tags = ArrayField(models.CharField(max_length=20), default=list)
    facts = models.JSONField(default=dict)
    added = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "django_shop"
        db_table = "shop_book"
        constraints = (
            models.CheckConstraint(condition=models.Q(stock__gte=0), name="stock_not_negative"),
        )

    def __str__(self) -> str:
        return str(self.title)
